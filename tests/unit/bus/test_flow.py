"""Producers told to slow down: from a high mark to a low one, by a note that nobody trusts for long."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from bus.flow import BEAT_S, FORGOTTEN_S, LOOK_EVERY_S, Flow, FlowGauge, Slow, note_path
from bus.log.store import LocalStore
from bus.memory import MemoryBus
from schemas.envelope import Message
from tests.unit.bus.logs import message


class Seconds:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Watched(LocalStore):
    """Counts what is read and written; the disk says no when told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read, self.written, self.broken = 0, 0, False

    def get(self, path: str) -> bytes | None:
        self.read += 1
        if self.broken:
            raise OSError("no")
        return super().get(path)

    def replace(self, path: str, data: bytes) -> None:
        self.written += 1
        if self.broken:
            raise OSError("no")
        super().replace(path, data)


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def store(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus()


def gauge(bus: MemoryBus, store: Watched, clock: Seconds) -> FlowGauge:
    return FlowGauge(bus, store, ["A", "B"], high=10, now=clock)


def fill(bus: MemoryBus, count: int) -> list[Message]:
    rows = [message(to_agent="A") for _ in range(count)]
    bus.submit(rows).result(1)
    return rows


def settle(bus: MemoryBus, rows: list[Message]) -> None:
    bus.submit(
        [message(from_agent="A", to_agent="", message_type="receipt", causation_id=row.message_id) for row in rows]
    ).result(1)


def test_producers_slow_down_at_the_high_mark_and_go_on_at_the_low_one(
    bus: MemoryBus, store: Watched, clock: Seconds
) -> None:
    gauged, flow = gauge(bus, store, clock), Flow(store, clock)
    seen: list[Slow | None] = []

    def look() -> Slow | None:
        clock.now += 1
        gauged.look()
        seen.append(flow.slow_down("A"))
        return seen[-1]

    rows = fill(bus, 9)
    assert look() is None
    rows += fill(bus, 1)
    assert look() == Slow("A", 10, 10)
    settle(bus, rows[:4])
    assert look() is not None  # six are left
    settle(bus, rows[4:5])
    assert look() is None
    fill(bus, 1)
    assert look() is None  # six again, and still nothing to wait for
    assert flow.slow_down("B") is None
    assert flow.slow_down("never heard of") is None


def test_a_producer_looks_at_most_every_hundred_milliseconds(store: Watched, clock: Seconds) -> None:
    flow = Flow(store, clock)
    for _ in range(100):
        flow.slow_down("A")
    assert store.read == 1
    clock.now += LOOK_EVERY_S + 0.001
    flow.slow_down("A")
    assert store.read == 2


def test_a_note_that_nobody_repeats_is_forgotten(bus: MemoryBus, store: Watched, clock: Seconds) -> None:
    gauged, flow = gauge(bus, store, clock), Flow(store, clock)
    fill(bus, 10)
    for _ in range(20):
        gauged.look()
        assert flow.slow_down("A") is not None
        clock.now += BEAT_S
    assert store.written == 20
    clock.now += FORGOTTEN_S
    assert flow.slow_down("A") is None
    gauged.look()
    clock.now += 1
    assert flow.slow_down("A") is not None


@pytest.mark.parametrize(
    "note", [b"", b"[]", b"{}", b'{"open":1}', b'{"slow_down":true,"open":"x","limit":1}', b"\xff"]
)
def test_a_note_that_makes_no_sense_tells_nobody_to_wait(store: Watched, clock: Seconds, note: bytes) -> None:
    store.replace(note_path("A"), note)
    assert Flow(store, clock).slow_down("A") is None


def test_a_disk_that_says_no_is_nobodys_problem(bus: MemoryBus, store: Watched, clock: Seconds) -> None:
    fill(bus, 10)
    store.broken = True
    gauge(bus, store, clock).look()
    assert Flow(store, clock).slow_down("A") is None


def test_an_agents_name_stays_within_the_folder(store: Watched, clock: Seconds) -> None:
    assert note_path("../../x") == "_tailrace/flow/..%2F..%2Fx.json"
    assert Flow(store, clock).slow_down("../../x") is None


class Noticed(Watched):
    """Says when a note was taken away."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.written_now, self.deleted_now = threading.Event(), threading.Event()

    def replace(self, path: str, data: bytes) -> None:
        super().replace(path, data)
        self.written_now.set()

    def delete(self, path: str) -> None:
        super().delete(path)
        self.deleted_now.set()


def test_a_host_follows_what_is_committed(bus: MemoryBus, tmp_path: Path) -> None:
    store = Noticed(tmp_path)
    store.replace(note_path("B"), b'{"slow_down":true,"open":99,"limit":9}')  # of a host that died
    store.written_now.clear()
    watching = FlowGauge(bus, store, ["A", "B"], high=10)
    watching.start()
    assert store.deleted_now.wait(5)
    assert Flow(store).slow_down("B") is None
    rows = fill(bus, 10)
    assert store.written_now.wait(5)
    assert Flow(store).slow_down("A") == Slow("A", 10, 10)
    store.deleted_now.clear()
    settle(bus, rows)
    assert store.deleted_now.wait(5)
    assert Flow(store).slow_down("A") is None
    store.written_now.clear()
    fill(bus, 10)
    assert store.written_now.wait(5)
    watching.stop()
    watching.stop()
    assert Flow(store).slow_down("A") is None
