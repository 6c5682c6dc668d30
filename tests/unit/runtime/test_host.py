"""The host and its inbox, where a bus or a feed is not what it should be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future

import pytest

from bus.errors import Closed
from bus.memory import MemoryBus, MemoryLog
from schemas.envelope import Message
from tests.contract.harness import HastyClock, MemoryWorld, Ping, Pinger, message, result
from tests.fakes import ManualClock, eventually


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


async def test_a_closed_bus_takes_nothing() -> None:
    bus = MemoryBus()
    bus.close()
    bus.close()
    assert isinstance(bus.submit([message(Ping(n=1))]).exception(), Closed)
