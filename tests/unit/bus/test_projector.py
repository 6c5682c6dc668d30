"""The projector: every event once, however commits come in, whoever else projects, and wherever it begins."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from bus.log.bus import LogBus
from bus.log.table import DeltaLog
from bus.projections.projector import Projection, Projector
from bus.projections.tables import event_row
from schemas.envelope import Message
from schemas.tables import AGENT_EVENTS
from tests.unit.bus.logs import append, ids, make_log, message, open_log


def rang(name: str) -> Message:
    return message(name, to_agent="*", message_type="event", kind="Rang")


def projector(bus: LogBus, folder: Path) -> Projector:
    return Projector(bus, bus.table, [Projection(DeltaLog(folder, AGENT_EVENTS), event_row)], pause_s=0)


def test_two_projectors_beside_two_busy_writers_project_every_event_once(tmp_path: Path) -> None:
    make_log(tmp_path / "log")
    DeltaLog(tmp_path / "events", AGENT_EVENTS).create()
    buses = [LogBus(open_log(tmp_path / "log")) for _ in range(2)]
    projectors = [projector(bus, tmp_path / "events") for bus in buses]
    for one in projectors:
        one.start()

    def write(bus: LogBus, name: str) -> None:
        for n in range(60):
            bus.submit([rang(f"{name}{n}"), message()]).result(20)

    threads = [threading.Thread(target=write, args=pair) for pair in zip(buses, "ab", strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for bus in buses:
        bus.catch_up()
    for one in projectors:
        one.stop()
        one.stop()
    for bus in buses:
        bus.close()
    expected = [name for name in ids(open_log(tmp_path / "log")) if name[0] in "ab"]
    assert ids(DeltaLog(tmp_path / "events", AGENT_EVENTS)) == expected
    assert len(expected) == 120


def test_a_projector_that_begins_late_catches_up_and_repeats_nothing(tmp_path: Path) -> None:
    make_log(tmp_path / "log")
    DeltaLog(tmp_path / "events", AGENT_EVENTS).create()
    bus = LogBus(open_log(tmp_path / "log"))
    for n in range(10):
        bus.submit([rang(f"e{n}")]).result(20)
        if n % 3 == 0:
            one = projector(bus, tmp_path / "events")
            one.start()
            one.stop()
    last = projector(bus, tmp_path / "events")
    last.start()
    last.stop()
    bus.close()
    assert ids(DeltaLog(tmp_path / "events", AGENT_EVENTS)) == [f"e{n}" for n in range(10)]


def test_a_receipt_that_nobody_signed_hides_nothing_from_a_projector_that_catches_up(tmp_path: Path) -> None:
    log = make_log(tmp_path / "log")
    DeltaLog(tmp_path / "events", AGENT_EVENTS).create()
    forged, real = (
        message(
            name,
            causation_id="root",
            from_agent="A",
            to_agent="",
            message_type="receipt",
            kind="Receipt",
            handling_id=name,
        )
        for name in ("forged", "real")
    )
    append(log, message("root"), forged)
    append(log, *(row.with_fields(key_id="a") for row in (real, rang("e").with_fields(handling_id="real"))))

    def accept(row: Message) -> bool:
        return row.key_id is not None

    bus = LogBus(open_log(tmp_path / "log"), accept=accept)
    events = [Projection(DeltaLog(tmp_path / "events", AGENT_EVENTS), event_row)]
    one = Projector(bus, bus.table, events, pause_s=0, accept=accept)
    one.start()
    one.stop()
    bus.close()
    assert ids(DeltaLog(tmp_path / "events", AGENT_EVENTS)) == ["e"]


def test_a_projector_goes_on_when_the_disk_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_log(tmp_path / "log")
    DeltaLog(tmp_path / "events", AGENT_EVENTS).create()
    bus = LogBus(open_log(tmp_path / "log"))
    events = Projection(DeltaLog(tmp_path / "events", AGENT_EVENTS), event_row)
    append_to, full, tried = events.append, threading.Event(), threading.Event()

    def append_unless_full(*what: Any) -> int:
        if full.is_set():
            tried.set()
            raise OSError(28, "No space left on device")
        return append_to(*what)

    monkeypatch.setattr(events, "append", append_unless_full)
    one = Projector(bus, bus.table, [events], pause_s=0, retry_s=0.001)
    one.start()
    full.set()
    bus.submit([rang("during")]).result(20)
    assert tried.wait(20)
    full.clear()
    bus.submit([rang("after")]).result(20)
    one.stop()
    bus.close()
    assert ids(DeltaLog(tmp_path / "events", AGENT_EVENTS)) == ["during", "after"]


def test_what_makes_no_row_costs_no_commit_and_is_not_looked_through_again(tmp_path: Path) -> None:
    make_log(tmp_path / "log")
    events = DeltaLog(tmp_path / "events", AGENT_EVENTS)
    events.create()
    bus = LogBus(open_log(tmp_path / "log"))
    one = projector(bus, tmp_path / "events")
    one.start()
    for n in range(30):
        bus.submit([message(f"m{n}")]).result(20)
    bus.submit([rang("e")]).result(20)
    bus.submit([message("last")]).result(20)
    one.stop()
    assert ids(events) == ["e"]
    assert events.head() <= 3  # as it began, with the event, and as it stopped
    assert Projection(events, event_row).position() == bus.catch_up() == 32
    bus.close()
