"""What hosts run with is in the log: keys, configuration, and changes of the key ring while they run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bus.keys import create_keys
from jobs.agents import AGENTS
from jobs.audit import verify
from jobs.bootstrap import System
from jobs.facts import HostFacts, configuration
from tests.unit.audit.forging import rows_of
from workers.runtime.clock import SystemClock

OURS = ("OrchestratorAgent", "RAGAgent", "CodeAgent")


@contextmanager
def running(system: System, digests: dict[str, str]) -> Iterator[None]:
    """A host's facts over a real bus, looking at the ring all the time."""
    bus = system.bus([a for a in AGENTS if a.name in OURS])
    noted = system.home.run / "facts-main.json"
    facts = HostFacts(
        bus, "main", OURS, system.home.keys, noted, lambda: (digests, {"env": "dev"}), SystemClock(), look_s=0.01
    )
    facts.start()
    try:
        yield
    finally:
        facts.stop()
        bus.close()


def told(system: System, action: str) -> list[dict[str, Any]]:
    said = [json.loads(row["content"]) for row in rows_of(system) if row["kind"] == "AuditRecorded"]
    return [fact["details"] for fact in said if fact["action"] == action]


def wait_for(found: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_start_says_the_keys_and_a_change_what_changed(home: System) -> None:
    (home.home.run / "facts-main.json").unlink(missing_ok=True)
    for digests in ({"policy": "a", "roles": "b"}, {"policy": "a", "roles": "b"}, {"policy": "c", "roles": "b"}):
        with running(home, digests):
            pass  # what it says as it starts, it says however soon it has to stop
    opened = told(home, "keys.opened")[-3:]
    assert [one["speaks_for"] for one in opened] == [list(OURS)] * 3
    assert opened[0]["fingerprints"].keys() == {"host-main"}
    assert opened[0]["configuration"] == opened[1]["configuration"] != opened[2]["configuration"]
    assert [one["changed"] for one in told(home, "config.changed")[-2:]] == [["policy", "roles"], ["policy"]]
    assert verify(home).ok


def test_a_key_that_comes_while_a_host_runs_is_said(home: System) -> None:
    with running(home, {}):
        wait_for(lambda: told(home, "keys.changed"))
        before = len(told(home, "keys.changed"))
        create_keys(home.home.keys, {"user-new": ["user:new"]}, 1)
        wait_for(lambda: len(told(home, "keys.changed")) > before)
    last = told(home, "keys.changed")[-1]
    assert (last["added"], last["gone"], last["changed"]) == (["user-new"], [], [])
    assert "user-new" in last["ring"]


def test_a_real_host_says_what_it_runs_with(home: System) -> None:
    """The recorded one did, as it started."""
    (opened,) = told(home, "keys.opened")
    (changed,) = told(home, "config.changed")
    assert opened["host"] == changed["host"] == "main"
    assert changed["digests"] == configuration(home.settings, lambda: home.policy.digest)
    assert changed["settings"]["env"] == "dev"


def test_another_policy_is_another_configuration(home: System, monkeypatch: Any, tmp_path: Path) -> None:
    before = configuration(home.settings, lambda: "p")
    (tmp_path / "redaction.yaml").write_text("version: 1\nrules: []\n")
    monkeypatch.setenv("TAILRACE_CONFIG", str(tmp_path))
    after = configuration(home.settings, lambda: "q")
    assert {name for name in before if before[name] != after[name]} == {"policy", "redaction.yaml"}
