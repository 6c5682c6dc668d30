"""`tailrace replay` as a person, and as a script, meets it: a process of its own that can do no harm."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import files
from tests.unit.replay.conftest import Recorded, Run
from tests.unit.replay.recorded import versions
from workers.adapters.sandbox import landlock

HERE = "tests.unit.replay.strangers"


@pytest.fixture
def changed(tmp_path: Path) -> str:
    path = tmp_path / "semantic.yaml"
    path.write_text(files.text("semantic/tpch.yaml").replace("l.l_discount", "l.l_tax"))
    return str(path)


def test_json_is_one_document_and_a_difference_fails_only_when_asked_to(
    run: Run, recorded: Recorded, changed: str
) -> None:
    short = recorded.said["executed"][:8]
    said = run(
        "--semantic", changed, "--agent", "CodeAgent", "--correlation-id", short, "--json", "--fail-on-difference"
    )
    assert said.code == 1
    assert said.json["messages"] == 1
    assert said.json["verdicts"] == {"different": 1}
    assert said.json["by_kind"] == [
        {"agent": "CodeAgent", "kind": "GenerateCode", "verdict": "different", "messages": 1}
    ]
    (finding,) = said.json["findings"]
    assert finding["correlation_id"] == recorded.said["executed"]
    assert finding["differences"][0]["path"] == "code.text"


def test_another_policy_is_tried_on_what_was_decided(run: Run, recorded: Recorded, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\nrules: [{id: nothing, effect: deny, reason: closed, when: {classes: [create]}}]\n")
    said = run("--policy", str(path), "--agent", "governance", "--correlation-id", recorded.said["executed"], "--json")
    assert said.json["verdicts"]["different"] >= 1
    changed = json.dumps(said.json["findings"])
    assert "closed" in changed
    assert "default.deny" in changed


def test_what_fails_now_fails_the_command(run: Run) -> None:
    said = run("--worker", f"{HERE}:Exiting", "--agent", "code")
    assert said.code == 1
    assert "3 failed" in said.out
    assert "I have had enough" in said.out


def test_misuse_names_the_cause(run: Run) -> None:
    said = run("--agent", "nobody", "--json")
    assert said.code == 2
    assert "no agent called nobody" in said.json["error"]["cause"]


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Something that listens on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("VANDAL_PORT", str(server.getsockname()[1]))
        yield server.getsockname()[1]


@pytest.mark.skipif(not landlock.available(), reason="this kernel has no Landlock")
def test_the_kernel_keeps_a_worker_from_what_is_not_its_own(run: Run, recorded: Recorded, port: int) -> None:
    before = versions(recorded.system)
    socket.create_connection(("127.0.0.1", port), 5).close()
    said = run(
        "--worker", f"{HERE}:Vandal", "--agent", "code", "--correlation-id", recorded.said["generated"], "--json"
    )
    assert said.json["verdicts"] == {"different": 1}
    managed = [d["now"]["rule"] for one in said.json["findings"] for d in one["differences"] if d["path"] == "content"]
    kept = said.json["kept_from"]
    assert "files" in kept
    assert managed == ([] if "network" in kept else ["connect"])
    assert versions(recorded.system) == before
    assert (recorded.system.home.keys / "keyring.json").exists()
    assert not (recorded.system.home.warehouse / "vandal").exists()
