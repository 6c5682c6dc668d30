"""The host and its inbox, where a bus or a feed is not what it should be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from bus.errors import Closed
from bus.memory import MemoryBus, MemoryLog
from schemas.envelope import Message
from tests.contract.harness import HastyClock, MemoryWorld, Ping, Pinger, message, result
from tests.fakes import ManualClock, eventually
from workers.runtime.inbox import Inbox


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


async def test_a_message_whose_commit_failed_is_tried_again_before_the_next_of_its_conversation(
    world: MemoryWorld,
) -> None:
    worker = Pinger()
    host = await world.host(worker, clock=HastyClock(), bus=FullBus(world.memory, failures=3))
    result(world.bus().submit([message(Ping(n=n), conversation="same") for n in range(3)]))
    await eventually(lambda: len(world.receipts("Pinger")) == 3)
    assert worker.ended == [0, 0, 0, 0, 1, 2]
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


async def drained(inbox: Inbox) -> list[str]:
    found = []
    while len(inbox):
        taken = await asyncio.wait_for(inbox.get(), 1)
        found.append(taken.message_id)
        inbox.done(taken)
    return found


def placed(name: str, place: int, conversation: str, **envelope: Any) -> Message:
    return message(Ping(n=place), conversation=conversation, message_id=name, log_version=place, seq=0, **envelope)


async def test_the_inbox_gives_the_urgent_first_and_the_older_before_the_newer() -> None:
    inbox = Inbox()
    for place, (name, priority) in enumerate([("low", 1), ("old", 5), ("new", 5), ("high", 10)]):
        assert inbox.put(placed(name, place, name, priority=priority))
    assert await drained(inbox) == ["high", "old", "new", "low"]


async def test_an_urgent_message_does_not_overtake_its_own_conversation() -> None:
    inbox = Inbox()
    inbox.put(placed("first", 1, "c", priority=1))
    inbox.put(placed("urgent", 2, "c", priority=10))
    inbox.put(placed("other", 3, "d", priority=5))
    assert await drained(inbox) == ["other", "first", "urgent"]


async def test_the_inbox_knows_a_message_until_it_is_done() -> None:
    inbox = Inbox()
    one = placed("one", 1, "c")
    assert [inbox.put(one), inbox.put(one)] == [True, False]
    taken = await inbox.get()
    assert inbox.put(one) is False
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(inbox.settled(), 0.01)
    inbox.done(taken)
    await asyncio.wait_for(inbox.settled(), 1)
    assert inbox.put(one) is True


async def test_a_full_inbox_refuses_until_it_is_refilled() -> None:
    inbox = Inbox(capacity=2)
    assert [inbox.put(placed(f"m{n}", n, "c")) for n in range(3)] == [True, True, False]
    inbox.done(await inbox.get())
    assert inbox.overflowed
    assert inbox.put(placed("m3", 3, "c")) is False
    inbox.overflowed = False
    assert inbox.put(placed("m2", 2, "c")) is True


async def test_a_draining_inbox_gives_out_nothing() -> None:
    inbox = Inbox()
    inbox.put(placed("one", 1, "c"))
    inbox.drain()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(inbox.get(), 0.01)
