"""`tailrace upkeep` as a person types it, and what an auditor finds after days have left for the archive."""

from __future__ import annotations

import socket
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bus.keys import create_keys
from bus.log.retention import archives
from jobs import upkeep as job
from jobs.agents import UPKEEP, find
from jobs.audit import verify
from jobs.bootstrap import System
from schemas.envelope import Message
from schemas.payloads import Ask, Receipt
from schemas.tables import AGENT_MESSAGES
from tests.unit.cli.conftest import Run
from workers.runtime.clock import SystemClock


class Later(SystemClock):
    """So many days from now."""

    def __init__(self, days: int) -> None:
        self._days = days

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(days=self._days)


@pytest.fixture
def kept(home: System) -> System:
    """A home with upkeep's own key."""
    create_keys(home.home.keys, {"upkeep": [UPKEEP]}, 0)
    return home


def send(system: System, count: int) -> list[str]:
    with system.client("ana") as client:
        return [client.send("RAGAgent", Ask(question=f"{n}")) for n in range(count)]


def test_a_pass_over_all_tables(run: Run, kept: System) -> None:
    send(kept, 20)
    said = run("upkeep", "--json")
    assert said.code == 0, said.err
    assert said.json["ok"] is True
    done = {one["table"]: one for one in said.json["tables"]}
    messages = done["agent_messages"]
    assert (messages["compacted"], messages["into"], messages["state"]) == (20, 1, messages["checkpoint"])
    assert done["audit_log"]["checkpoint"] is None
    shown = run("upkeep")
    assert (shown.code, "nothing to do" in shown.out) == (0, True)
    assert "a log of 22, 0 since the checkpoint" in run("doctor").out


def test_only_one_at_a_time(run: Run, kept: System) -> None:
    with job.alone(kept.home):
        said = run("upkeep")
    assert said.code == 1
    assert "upkeep runs already in this home, process" in said.err


def test_a_home_without_upkeeps_key_says_what_is_missing(run: Run, home: System) -> None:
    said = run("upkeep", "--json")
    assert said.code == 1
    assert list(said.json["failed"]) == ["agent_messages"]
    assert UPKEEP in said.json["failed"]["agent_messages"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--archive", "somewhere"], "nothing says which are old"),
        (["--discard"], "nothing says which are old"),
        (["--retain-days", "3"], "nothing says where they go"),
        (["--retain-days", "3", "--archive", "x", "--discard"], "throws away"),
        (["--retain-days", "0", "--archive", "x"], "retain-days"),
        (["--metrics-port", "9464"], "served while upkeep watches"),
        (["--watch", "--metrics-address", "0.0.0.0"], "not at which port"),
        (["--watch", "--metrics-port", "70000"], "metrics-port"),
    ],
)
def test_nothing_is_done_that_was_not_said_whole(run: Run, kept: System, words: list[str], said: str) -> None:
    found = run("upkeep", *words)
    assert (found.code, said in found.err) == (2, True), found.err


def test_a_port_that_somebody_else_has_is_named(run: Run, kept: System) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        said = run("upkeep", "--watch", "--metrics-port", port, "--json")
    assert said.code == 1
    assert f"127.0.0.1:{port}" in said.json["error"]["cause"]
    assert "another --metrics-port" in said.json["error"]["remedy"]


def test_no_days_leave_a_table_in_unity_catalog(run: Run, kept: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_TABLES", "uc://main.tailrace")
    said = run("upkeep", "--retain-days", "3", "--archive", "elsewhere")
    assert (said.code, "append-only" in said.err) == (2, True), said.err


def handled(system: System) -> None:
    """A conversation that is over, and known to every projection."""
    send(system, 1)
    agent = find("rag")
    bus = system.bus([agent])
    try:
        (request,) = bus.state.open_for(agent.name)
        receipt = Message(
            message_id="r1",
            correlation_id=request.correlation_id,
            causation_id=request.message_id,
            from_agent=agent.name,
            to_agent="*",
            message_type="receipt",
            kind=Receipt.kind(),
            content=Receipt(outcome="handled").model_dump_json(),
            timestamp=request.timestamp,
            principal="ana",
            handling_id="r1",
        )
        bus.submit([receipt]).result(10)
        projector = system.projector(bus)
        projector.start()
        projector.stop()
    finally:
        bus.close()


def test_an_auditor_reads_on_in_the_archive(kept: System, tmp_path: Path) -> None:
    handled(kept)
    before = verify(kept)
    assert before.ok, before.problems
    done = job.Pass()
    job.Tables(System(kept.settings, Later(5))).retain(2, tmp_path / "archive", done)
    assert done.failed == {}
    assert [one.rows for one in done.retained if one.table == AGENT_MESSAGES.name] == [2]
    messages = kept.log(AGENT_MESSAGES.name)
    assert messages.scan()[0].num_rows == 0
    assert list(archives(messages)) == [str(tmp_path / "archive" / "agent_messages")]
    after = verify(kept)
    assert after.ok, after.problems
    assert after.checked == before.checked


def test_a_conversation_is_traced_in_the_archive(run: Run, kept: System, tmp_path: Path) -> None:
    handled(kept)
    (root, *_) = kept.log(AGENT_MESSAGES.name).scan()[0].to_pylist()
    named = root["correlation_id"]
    before = run("trace", named, "--json").json
    job.Tables(System(kept.settings, Later(5))).retain(2, tmp_path / "archive", job.Pass())
    assert kept.log(AGENT_MESSAGES.name).scan()[0].num_rows == 0
    for asked in (named, named[:8]):
        assert run("trace", asked, "--json").json == before
    said = run("trace", "never-was", "--json")
    assert said.code == 2
    assert f"went to {tmp_path}/archive/agent_messages" in said.json["error"]["cause"]
    assert "went to" in run("trace", "last", "--json").json["error"]["cause"]
    (tmp_path / "archive").rename(tmp_path / "elsewhere")
    said = run("trace", named, "--json")
    assert said.code == 1
    assert said.json["error"]["remedy"] == "bring the archive back to where it was"


def test_what_was_discarded_is_said(run: Run, kept: System) -> None:
    handled(kept)
    (root, *_) = kept.log(AGENT_MESSAGES.name).scan()[0].to_pylist()
    job.Tables(System(kept.settings, Later(5))).retain(2, None, job.Pass())
    said = run("trace", root["correlation_id"], "--json")
    assert said.code == 2
    assert "were discarded" in said.json["error"]["cause"]


def test_what_no_projection_has_seen_does_not_leave(kept: System, tmp_path: Path) -> None:
    send(kept, 1)
    done = job.Pass()
    job.Tables(System(kept.settings, Later(5))).retain(2, tmp_path / "archive", done)
    assert (done.failed, [one.rows for one in done.retained]) == ({}, [0, 0, 0])


def test_watching_works_when_there_is_something_to_do(kept: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "LOOK_S", 0.005)
    system = System(kept.settings.model_copy(update={"upkeep_interval_s": 0.005}))
    stop, worked, total = threading.Event(), threading.Event(), job.Pass()

    def told(done: job.Pass) -> None:
        total.add(done)
        if total.worked:
            worked.set()

    thread = threading.Thread(target=job.watch, args=(system, stop, told))
    thread.start()
    try:
        send(kept, 20)
        assert worked.wait(30)
    finally:
        stop.set()
        thread.join()
    assert {one.table: one.into for one in total.done}["agent_messages"] >= 1
    assert (total.failed, total.document()["ok"]) == ({}, True)


def test_a_table_that_is_spoilt_keeps_no_other_from_upkeep(run: Run, kept: System) -> None:
    send(kept, 20)
    log = kept.home.root / "tables" / "agent_events" / "_delta_log"
    (log / f"{1:020d}.json").write_bytes(b"garbage")
    said = run("upkeep", "--json")
    assert said.code == 1
    assert list(said.json["failed"]) == ["agent_events"]
    assert "log entry 1 is not JSON lines" in said.json["failed"]["agent_events"]
    assert said.json["tables"][0]["into"] == 1
