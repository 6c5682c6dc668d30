"""The host and its inbox, where a bus or a feed is not what it should be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future

import pytest

from bus.base import Deliver
from bus.errors import Closed
from bus.memory import MemoryBus, MemoryLog
from bus.tail import TailFeed
from schemas.envelope import EVERYONE, Message
from schemas.payloads import InstanceChanged
from tests.contract.harness import HastyClock, Listener, MemoryWorld, Ping, Pinger, Rang, message, result
from tests.fakes import ManualClock, eventually
from workers.runtime.leases import Timing


class FullBus(MemoryBus):
    """Refuses the first `failures` commits that hold a receipt."""

    def __init__(self, memory: MemoryLog, failures: int) -> None:
        super().__init__(memory)
        self.failures = failures

    def submit(self, messages: Sequence[Message]) -> Future[int]:
        if self.failures and any(m.message_type == "receipt" for m in messages):
            self.failures -= 1
            refused: Future[int] = Future()
            refused.set_exception(OSError("no space left on device"))
            return refused
        return super().submit(messages)


@pytest.fixture
async def world() -> AsyncIterator[MemoryWorld]:
    made = MemoryWorld()
    yield made
    await made.close()


async def test_a_commit_that_failed_is_tried_again_before_the_next_of_its_conversation(
    world: MemoryWorld,
) -> None:
    worker = Pinger()
    host = await world.host(worker, clock=HastyClock(), bus=FullBus(world.memory, failures=3))
    result(world.bus().submit([message(Ping(n=n), conversation="same") for n in range(3)]))
    await eventually(lambda: len(world.receipts("Pinger")) == 3)
    assert worker.ended == [0, 1, 2]  # handled once: only the commit is tried again
    assert host.failed.is_set()
    assert [row["content"] for row in world.of_kind("Pong")] == ['{"n":0}', '{"n":1}', '{"n":2}']


async def test_a_message_for_later_has_one_timer_however_often_it_is_delivered(world: MemoryWorld) -> None:
    clock = ManualClock()
    worker = Pinger()
    host = await world.host(worker, clock=clock)
    later = message(Ping(n=1), not_before=round(clock.now().timestamp() * 1_000_000) + 1_000_000)
    result(world.bus().submit([later]))
    await eventually(lambda: clock._sleepers)
    for _ in range(5):
        host._deliver(host._bus.state.open_for("Pinger"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(clock._sleepers) == 1
    clock.advance(1)
    await eventually(lambda: len(world.receipts("Pinger")) == 1)
    assert worker.ended == [1]


class Held(TailFeed):
    """Delivers when it is told to."""

    def start(self, agents: Sequence[str], deliver: Deliver) -> None:
        self.rows: list[Message] = []
        super().start(agents, self.rows.extend)
        self._deliver = deliver

    def release(self) -> None:
        self._deliver(self.rows)


def started(*subscribes: str) -> Message:
    said = InstanceChanged(
        agent="Listener",
        instance="Listener-x",
        host="h",
        engine="tail",
        step="started",
        kinds=[],
        duration_ms=60_000,
        subscribes=subscribes,
    )
    return message(said, EVERYONE, from_agent="Listener", principal="agent:Listener")


async def test_an_event_is_for_whoever_subscribed_when_it_was_published(world: MemoryWorld) -> None:
    listener = Listener()
    # Whose work it is does not change, so that nothing comes in but through the feed.
    host = await world.host(listener, feed=Held, timing=Timing(alive=lambda _: True))
    bus = world.bus()
    result(bus.submit([message(Rang(n=n), EVERYONE) for n in range(20)]))
    result(bus.submit([started()]))  # a newer instance, of a version that subscribes to nothing
    result(bus.submit([message(Rang(n=99), EVERYONE)]))
    membership = host.instances["Listener"].lease.membership
    await eventually(lambda: list(membership.others))
    owns = membership.owns
    ours = [row for row in host._bus.state.open_for("Listener") if owns(row.correlation_id)]
    assert ours
    world.feeds[-1].release()
    await eventually(lambda: len(world.receipts("Listener")) == len(ours), timeout=5.0)
    assert 99 not in listener.heard


async def test_a_closed_bus_takes_nothing() -> None:
    bus = MemoryBus()
    bus.close()
    bus.close()
    assert isinstance(bus.submit([message(Ping(n=1))]).exception(), Closed)
