"""What is drawn, read back as plain text."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console, RenderableType

from apps.cli.exits import CommandError
from apps.cli.outcome import outcome_of
from apps.cli.terminal import THEME, ago, counted, milliseconds
from apps.cli.views.answer import answer
from apps.cli.views.code import code
from apps.cli.views.failure import failure
from apps.cli.views.rows import number, result_rows
from apps.cli.views.safe import safe
from apps.cli.views.trace import question_of, trace
from schemas.envelope import Message


def drawn(shown: RenderableType, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, theme=THEME, highlight=False)
    console.print(shown)
    return console.file.getvalue()


def test_a_trace_shows_every_message_under_its_cause(recorded: list[Message]) -> None:
    lines = drawn(trace(outcome_of(recorded))).splitlines()
    at = {kind: next(line.index(kind) for line in lines if kind in line) for kind in ("GenerateCode", "CodeGenerated")}
    assert at["CodeGenerated"] > at["GenerateCode"]
    text = "\n".join(lines)
    for words in ("eli → Orchestrator  Ask", "ada → Governance  Decide  approve", "grant.issued", "execution.done"):
        assert words in text
    assert "ExpireApprovals" not in text
    assert "receipt" not in text


def test_receipts_are_shown_when_asked_for(recorded: list[Message]) -> None:
    text = drawn(trace(outcome_of(recorded), receipts=True))
    assert text.count("receipt of ") == 9
    assert "due later" in text


def test_a_message_nobody_handled_yet_is_said_to_wait(recorded: list[Message]) -> None:
    assert "waiting" in drawn(trace(outcome_of(recorded[:1])))


def test_no_line_is_wider_than_the_terminal(recorded: list[Message]) -> None:
    for width in (80, 100, 120):
        assert max(len(line) for line in drawn(trace(outcome_of(recorded)), width).splitlines()) <= width


def test_an_answer_shows_rows_code_and_where_they_are_kept(recorded: list[Message]) -> None:
    text = drawn(answer(outcome_of(recorded)))
    assert "answered in" in text
    assert "Customer#1" in text
    assert "results.best" in text
    assert "FROM tpch.customer" in text


def test_a_refusal_shows_rule_and_reason(recorded: list[Message]) -> None:
    refused = replace(
        outcome_of(recorded),
        status="refused",
        refusal={"rule": "rbac.sql.execute", "reason": "you may not"},
        result=None,
    )
    text = drawn(answer(refused))
    assert "you may not" in text
    assert "rule rbac.sql.execute" in text


def test_numbers_are_right_aligned_and_words_left() -> None:
    lines = drawn(result_rows(["name", "sales"], [["a", "1234567.5000"], ["bb", "1.25"]], False)).splitlines()
    rows = [line.rstrip() for line in lines if line.strip().startswith(("a", "b"))]
    assert rows[0].endswith("1,234,567.50")
    assert rows[1].endswith("        1.25")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1995, "1995"), ("1234.5", "1,234.50"), ("-0.12345", "-0.12345"), (2.0, "2.00"), ("1e5", "1e5")],
)
def test_numbers_are_readable(value: object, shown: str) -> None:
    assert number(value) == shown


def test_what_is_missing_of_a_result_is_said() -> None:
    assert "2 of 3 rows shown" in drawn(result_rows(["a"], [[1], [2], [3]], False, limit=2))
    assert "no rows" in drawn(result_rows(["a"], [], False))
    assert "holds more" in drawn(result_rows(["a"], [[None]], True))


def test_what_others_wrote_cannot_steer_the_terminal() -> None:
    hidden = "SELECT 1 \x1b[2K\x1b[1A-- \u202eDROP"
    assert "\x1b" not in safe(hidden)
    assert "\u202e" not in safe(hidden)
    assert "\x1b" not in drawn(code(hidden, "sql"))
    assert "<U+1B>" in drawn(failure(CommandError(hidden)))
    assert question_of('{"question": "a\\u001bb"}') == "a<U+1B>b"


def test_a_long_question_is_cut_in_a_title() -> None:
    assert len(question_of('{"question": "' + "x" * 500 + '"}')) == 90
    assert question_of("no json") == "no json"


def test_code_that_cannot_be_parsed_is_shown_as_it_is() -> None:
    assert "SELECT FROM WHERE (" in drawn(code("SELECT FROM WHERE (", "sql"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (0.42, "0.4 ms"), (34, "34 ms"), (1234, "1.23 s"), (12345, "12.3 s"), (106000, "106 s")],
)
def test_milliseconds_fit_a_column(value: float | None, shown: str) -> None:
    assert milliseconds(value) == shown


def test_spans_of_time_and_counts() -> None:
    assert [ago(s) for s in (0.2, 5, 60, 600, 7200, 400000)] == ["200 ms", "5.0 s", "60 s", "10 min", "2 h", "5 days"]
    assert [counted(n, "hop") for n in (1, 2, 1000)] == ["1 hop", "2 hops", "1,000 hops"]
