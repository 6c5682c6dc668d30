"""`tailrace replay` as a person, and as a script, meets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import files
from tests.unit.replay.conftest import Recorded, Run

HERE = "tests.unit.replay.strangers"


@pytest.fixture
def changed(tmp_path: Path) -> str:
    path = tmp_path / "semantic.yaml"
    path.write_text(files.text("semantic/tpch.yaml").replace("l.l_discount", "l.l_tax"))
    return str(path)


def test_all_the_same(run: Run) -> None:
    said = run()
    assert said.code == 0
    assert "25 messages replayed · 25 same" in said.out
    assert "different" not in said.out


def test_a_difference_is_shown_with_the_way_to_the_conversation(run: Run, recorded: Recorded, changed: str) -> None:
    said = run("--semantic", changed, "--agent", "code", "--limit", "1", "--ignore", "explanation")
    assert said.code == 0
    assert "3 messages replayed · 1 same · 2 different" in said.out
    assert "CodeGenerated to OrchestratorAgent" in said.out
    lines = [line.strip() for line in said.out.splitlines()]
    assert "-     1 - l.l_discount" in lines
    assert "+     1 - l.l_tax" in lines
    assert f"tailrace trace {recorded.said['executed']}" in said.out
    assert f"tailrace trace {recorded.said['generated']}" not in said.out
    assert "and 1 more: --limit shows more of them" in said.out
    assert "replays where replay_id = 'rpl-" in said.out


def test_a_difference_fails_only_when_asked_to(run: Run, changed: str) -> None:
    asked = ("--semantic", changed, "--agent", "code", "--fail-on-difference")
    assert run(*asked).code == 1
    assert run(*asked, "--ignore", "code.text", "--ignore", "explanation").code == 0


def test_what_fails_now_fails_the_command(run: Run) -> None:
    said = run("--worker", f"{HERE}:Exiting", "--agent", "code")
    assert said.code == 1
    assert "3 failed" in said.out
    assert "I have had enough" in said.out


def test_json_is_one_document(run: Run, recorded: Recorded, changed: str) -> None:
    document = run("--semantic", changed, "--agent", "CodeAgent", "--json").json
    assert document["messages"] == 3
    assert document["verdicts"] == {"different": 2, "same": 1}
    assert {one["correlation_id"] for one in document["results"]} == {
        recorded.said["executed"],
        recorded.said["generated"],
    }
    assert {"agent": "CodeAgent", "kind": "GenerateCode", "verdict": "different", "messages": 2} in document["by_kind"]


def test_the_beginning_of_a_conversations_id_is_enough(run: Run, recorded: Recorded) -> None:
    document = run("--correlation-id", recorded.said["executed"][:8], "--agent", "governance", "--json").json
    assert document["messages"] == 3


def test_nothing_to_replay_is_no_failure(run: Run) -> None:
    said = run("--from", "100000")
    assert (said.code, "nothing to replay" in said.out) == (0, True)


@pytest.mark.parametrize(
    ("words", "code", "cause"),
    [
        (("--from", "yesterday"), 2, "nor an ISO time"),
        (("--agent", "nobody"), 2, "no agent called nobody"),
        (("--worker", "no.such:Thing"), 2, "cannot be imported"),
        (("--worker", f"{HERE}:Demanding", "--agent", "code"), 2, "without arguments"),
        (("--correlation-id", "ffffffff"), 2, "no conversation"),
        (("--plans", "nowhere.yaml"), 1, "nowhere.yaml"),
    ],
)
def test_misuse_names_the_cause(run: Run, words: tuple[str, ...], code: int, cause: str) -> None:
    said = run(*words, "--json")
    assert said.code == code
    assert cause in said.json["error"]["cause"]
