"""What a person sees of a replay, read back as plain text."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

import pytest
from rich.console import Console

from apps.cli.terminal import THEME
from apps.cli.views.replay import replay_report
from jobs.replay.report import Finding, ReplayReport
from workers.runtime.comparing import ABSENT, Difference


def finding(
    verdict: str = "different", reason: str = "", differences: tuple[Difference, ...] = (), n: int = 1
) -> Finding:
    return Finding(
        message_id=f"m{n}",
        correlation_id=f"conversation-{n}",
        agent="CodeAgent",
        kind="GenerateCode",
        verdict=verdict,
        reason=reason,
        recorded_outcome="handled",
        replayed_outcome="handled",
        recorded_ms=12.0,
        replayed_ms=2000.0,
        differences=differences,
    )


def drawn(*findings: Finding, same: int = 0, limit: int = 10, width: int = 120, **said: Any) -> str:
    report = ReplayReport("rpl-1", 7, **said)
    report.counts = Counter({("CodeAgent", "GenerateCode", "same"): same} if same else {})
    for one in findings:
        report.add(one)
    console = Console(file=io.StringIO(), width=width, theme=THEME, highlight=False)
    console.print(replay_report(ReplayReport.parse(report.document()), limit))
    return console.file.getvalue()


def change(then: Any, now: Any, path: str = "code.text") -> Difference:
    return Difference("CodeGenerated to OrchestratorAgent", path, then, now)


def test_all_the_same() -> None:
    text = drawn(same=25)
    assert "25 messages replayed · 25 same" in text
    assert "different" not in text
    assert "replays where replay_id = 'rpl-1'" in text


def test_nothing_to_replay() -> None:
    assert "nothing to replay" in drawn()


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (0, "1,025 messages replayed · "),
        (7, "replayed, 7 of them from the archive · "),
        (1025, "replayed, from the archive · "),
    ],
)
def test_how_many_came_from_the_archive(there: int, said: str) -> None:
    assert said in drawn(same=1025, from_archive=there)


def test_days_that_are_nowhere_any_more() -> None:
    assert "days up to 2026-01-03 were discarded" in drawn(same=1, discarded_to="2026-01-03")
    assert "days up to 2026-01-03 were discarded" in drawn(discarded_to="2026-01-03")


def test_a_difference_names_the_field_both_values_and_the_way_to_the_conversation() -> None:
    lines = [line.strip() for line in drawn(finding(differences=(change("SELECT 1", "SELECT 2"),))).splitlines()]
    at = lines.index("CodeGenerated to OrchestratorAgent")
    assert lines[at - 1].startswith("different  Code ← GenerateCode  12 ms then, 2.00 s now")
    assert lines[at + 1 :][:4] == [
        "code.text",
        "- SELECT 1",
        "+ SELECT 2",
        "the conversation: tailrace trace conversation-1",
    ]


def test_of_a_long_text_only_what_changed_is_shown() -> None:
    then = "\n".join(f"line {n}" for n in range(100))
    text = drawn(finding(differences=(change(then, then.replace("line 50\n", "line fifty\n")),)))
    shown = [line.strip() for line in text.splitlines()]
    assert "- line 50" in shown
    assert "+ line fifty" in shown
    assert "line 10" not in shown


def test_what_came_and_what_went() -> None:
    text = drawn(finding(differences=(change({"n": 1}, ABSENT, ""), change(ABSENT, {"n": 2}, ""))))
    assert '- no longer sent: {"n": 1}' in text
    assert '+ new: {"n": 2}' in text


def test_the_worst_is_not_lost_among_many() -> None:
    many = [finding(differences=(change(n, n + 1, f"field_{'x' * n}"),), n=n) for n in range(20)]
    text = drawn(*many, finding("failed", "ValueError: no", n=99), limit=5)
    assert text.count("tailrace trace") == 5
    assert text.index("conversation-99") < text.index("conversation-0")
    assert "and 16 more: --limit shows more of them" in text


def test_messages_that_differ_alike_are_shown_once() -> None:
    many = [finding(differences=(change(n, n + 1, f"rows[{n}].name"),), n=n) for n in range(20)]
    text = drawn(*many)
    assert text.count("tailrace trace") == 1
    assert "and 19 more messages like it" in text


def test_what_fails_as_it_did_is_counted_and_not_told() -> None:
    text = drawn(finding("still_failing", "ValueError: no"), same=1)
    assert "1 still failing" in text
    assert "ValueError" not in text


def test_many_fields_of_one_message_are_counted() -> None:
    assert "and 14 more fields" in drawn(finding(differences=tuple(change(n, -n, f"f{n}") for n in range(1, 21))))


def test_control_characters_are_shown_and_not_obeyed() -> None:
    text = drawn(finding("failed", "\x1b[2Jgone", (change("a\x1b[2J", "b\x1b[2J"),)))
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (("files", "network"), "the kernel let it write that table only, and gave it no network"),
        (("files",), "kept others from files but that table only"),
        ((), "nothing here keeps others from theirs"),
    ],
)
def test_what_stood_between_workers_and_the_world_is_said(held: tuple[str, ...], words: str) -> None:
    assert words in " ".join(drawn(same=1, held=held).split())


def test_no_line_is_wider_than_the_terminal() -> None:
    text = drawn(finding("failed", "x " * 200, (change("y" * 300, "z" * 300), change("a b " * 90, 1))), width=80)
    assert max(len(line) for line in text.splitlines()) <= 80
