"""Upkeep asks the log what outcomes refer to before it removes what executions left."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bus.log import rows as codec
from jobs import upkeep as job
from jobs.bootstrap import System
from jobs.leftovers import needed
from schemas.envelope import Message
from schemas.tables import AGENT_MESSAGES
from tests.unit.audit.recorded import make_home


@pytest.fixture
def system(tmp_path: Path) -> System:
    return make_home(tmp_path / "home")


def say(system: System, *said: tuple[str, str]) -> None:
    """Rows of the execution agent: (kind, content)."""
    log = system.log(AGENT_MESSAGES.name)
    version = log.head() + 1
    rows = [
        Message(
            message_id=f"m{version}-{number}",
            correlation_id="c",
            from_agent="ExecutionAgent",
            to_agent="*",
            message_type="event",
            kind=kind,
            content=content,
            timestamp=0,
        )
        for number, (kind, content) in enumerate(said)
    ]
    assert log.put(version, codec.to_arrow(rows, version)).won


def outcome(grant: str, step: str, **more: Any) -> tuple[str, str]:
    return "ExecutionSettled", json.dumps({"grant_id": grant, "step": step, "target": f"results.{grant}", **more})


def claim(grant: str) -> tuple[str, str]:
    return "ExecutionClaimed", json.dumps({"grant_id": grant, "target": f"results.{grant}"})


def kept(system: System, name: str) -> Path:
    file = system.home.warehouse / ".results" / f"{name}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"1234")
    os.utime(file, (0, 0))
    return file


def test_what_the_log_speaks_of(system: System) -> None:
    say(system, claim("done"), outcome("done", "done", reference="warehouse/.results/done.parquet"))
    say(system, claim("doubt"), outcome("doubt", "in_doubt"), claim("begun"), claim("settled"))
    say(system, outcome("settled", "in_doubt"), outcome("settled", "failed"))
    say(system, ("ExecutionSettled", "[]"), ("ExecutionClaimed", "[" * 5_000))
    found = needed(system)
    assert found.results == {"done.parquet"}
    assert found.targets == {"results.doubt", "results.begun"}


def test_a_pass_removes_what_nothing_refers_to(system: System) -> None:
    say(system, outcome("told", "done", reference="warehouse/.results/told.parquet"))
    told, orphan = kept(system, "told"), kept(system, "orphan")
    done = job.Tables(system).run()
    assert (told.exists(), orphan.exists()) == (True, False)
    assert done.document()["leftovers"] == {"removed": [".results/orphan.parquet"], "bytes": 4}
    again = job.Tables(system).run()
    assert (again.removed, again.failed) == ([], {})
    done.add(again)
    assert done.document()["leftovers"]["bytes"] == 4


def test_when_the_log_cannot_be_asked_nothing_is_removed(system: System) -> None:
    orphan = kept(system, "orphan")
    (system.log(AGENT_MESSAGES.name).path / "_delta_log" / f"{0:020d}.json").write_text("no entry")
    done = job.Pass()
    job.Tables(system).tidy(done)
    assert "leftovers" in done.failed
    assert orphan.exists()
