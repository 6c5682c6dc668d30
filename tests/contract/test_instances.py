"""Several instances of one agent: each message handled by one of them, in order, whoever comes, goes, sleeps or dies."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from bus.fold import INSTANCE_CHANGED
from bus.memory import MemoryBus, MemoryLog
from schemas.envelope import Message
from tests.contract.harness import LogWorld, MemoryWorld, Ping, Pinger, Pong, eventually, message, result
from workers.runtime.base import Context, Outgoing, Received, reply
from workers.runtime.host import Host
from workers.runtime.leases import Timing
from workers.runtime.membership import rank


class Moments:
    """A monotonic clock that moves when the test says so, for everybody who was given its timing."""

    def __init__(self) -> None:
        self._now = 0.0
        self._waiting: list[tuple[float, asyncio.Event]] = []

    def timing(self, alive: Callable[[str], bool | None] = lambda _: None) -> Timing:
        return Timing(10.0, lambda: self._now, self._wait, alive)

    async def _wait(self, woken: asyncio.Event, seconds: float | None) -> None:
        if seconds is not None:
            self._waiting.append((self._now + seconds, woken))
        await woken.wait()

    async def advance(self, seconds: float, *, step: float = 1.0) -> None:
        """In steps, each of which everybody gets the time to act upon."""
        until = self._now + seconds
        while self._now < until:
            self._now = min(until, self._now + step)
            due = [woken for when, woken in self._waiting if when <= self._now]
            self._waiting = [one for one in self._waiting if one[0] > self._now]
            for woken in due:
                woken.set()
            await asyncio.sleep(0.005)


class Asleep:
    """The timing of an instance that does not get to run its lease: it hears, and says nothing, until it is woken."""

    def __init__(self, moments: Moments) -> None:
        self._timing = moments.timing()
        self.asleep = asyncio.Event()
        self._woken = asyncio.Event()

    async def _wait(self, woken: asyncio.Event, seconds: float | None) -> None:
        await self._timing.wait(woken, seconds)
        if self.asleep.is_set():
            await self._woken.wait()

    def wake(self) -> None:
        self.asleep.clear()
        self._woken.set()

    @property
    def timing(self) -> Timing:
        return Timing(10.0, self._timing.now, self._wait, self._timing.alive)


class Sharer(Pinger):
    """Writes down what it began. `gates`: messages that wait for theirs; `pause`: what others get between two steps."""

    name = "Pinger"

    def __init__(self, gates: dict[int, asyncio.Event] | None = None, pause: float = 0.0) -> None:
        super().__init__()
        self.gates, self.pause = gates or {}, pause

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        assert isinstance(message.payload, Ping)
        n = message.payload.n
        self.began.append(n)
        if n in self.gates:
            await self.gates[n].wait()
        await asyncio.sleep(self.pause)
        self.ended.append(n)
        return [reply(message, Pong(n=n))]


class OneAtATime(Sharer):
    name = "Pinger"
    concurrency = 1


def backlog(count: int = 300, conversations: int = 60) -> list[Message]:
    return [message(Ping(n=n), conversation=f"c{n % conversations}") for n in range(count)]


async def send(world: Any, messages: list[Message], *, each: bool = False) -> None:
    bus = world.bus()
    futures = [bus.submit([one]) for one in messages] if each else [bus.submit(messages)]
    await asyncio.to_thread(lambda: [result(future) for future in futures])


def answered_once_and_in_order(world: Any, sent: list[Message]) -> None:
    place = {m.message_id: (m.correlation_id, json.loads(m.content)["n"]) for m in sent}
    receipts = world.receipts("Pinger")
    assert Counter(row["causation_id"] for row in receipts) == dict.fromkeys(place, 1)
    order = defaultdict(list)
    for row in receipts:
        conversation, n = place[row["causation_id"]]
        order[conversation].append(n)
    assert all(numbers == sorted(numbers) for numbers in order.values())


def instances(world: Any, step: str) -> list[dict[str, Any]]:
    facts = [json.loads(row["content"]) for row in world.rows() if row["kind"] == INSTANCE_CHANGED]
    return [fact for fact in facts if fact["step"] == step]


def is_joined(host: Host) -> bool:
    return host.instances["Pinger"].lease.membership.joined


@pytest.fixture(params=["memory", "log"])
async def tail_world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    """Without a stream, where time stands still for a test, and where one test over a stream says enough."""
    made = MemoryWorld() if request.param == "memory" else LogWorld(tmp_path)
    yield made
    await made.close()


# --- nobody fails ----------------------------------------------------------------------------------------------------


async def test_two_instances_share_the_conversations_and_nothing_is_handled_twice(tail_world: Any) -> None:
    first, second = Sharer(), Sharer()
    hosts = [await tail_world.host(first), await tail_world.host(second)]
    await eventually(lambda: all(is_joined(host) for host in hosts), tail_world.patience)
    sent = backlog()
    await send(tail_world, sent, each=True)
    await eventually(lambda: len(first.ended) + len(second.ended) >= 300, tail_world.patience)
    await eventually(lambda: len(tail_world.receipts("Pinger")) >= 300, tail_world.patience)
    assert sorted(first.ended + second.ended) == list(range(300))
    assert min(len(first.ended), len(second.ended)) > 60
    answered_once_and_in_order(tail_world, sent)


async def test_instances_join_and_leave_in_the_middle_of_a_backlog(world: Any) -> None:
    go = asyncio.Event()
    workers = [Sharer(dict.fromkeys(range(100, 300), go), pause=0.001) for _ in range(4)]
    hosts = [await world.host(workers[0])]
    sent = backlog()
    await send(world, sent)
    await eventually(lambda: len(workers[0].ended) > 20, world.patience)
    hosts.append(await world.host(workers[1]))
    hosts.append(await world.host(workers[2]))
    await eventually(lambda: all(is_joined(host) for host in hosts), world.patience)
    go.set()
    await eventually(lambda: workers[1].ended and workers[2].ended, world.patience)
    await world.stop(hosts[0])
    handled = len(workers[0].ended)
    await world.host(workers[3])
    await eventually(lambda: sum(len(worker.ended) for worker in workers) >= 300, world.patience)
    await eventually(lambda: len(world.receipts("Pinger")) >= 300, world.patience)
    assert Counter(n for worker in workers for n in worker.ended) == dict.fromkeys(range(300), 1)
    assert len(workers[0].ended) == handled
    answered_once_and_in_order(world, sent)
    assert instances(world, "ended") == []


async def test_a_conversation_under_way_is_handed_over_when_its_message_is_done(tail_world: Any) -> None:
    gates = {n: asyncio.Event() for n in range(6)}
    first, second = Sharer(gates), Sharer()
    host = await tail_world.host(first)
    sent = [message(Ping(n=n), conversation=f"c{n % 6}") for n in range(12)]
    await send(tail_world, sent)
    await eventually(lambda: len(first.began) == 6, tail_world.patience)
    other = await tail_world.host(second)
    await eventually(lambda: is_joined(other), tail_world.patience)
    names = [host.instances["Pinger"].name, other.instances["Pinger"].name]
    theirs = [n for n in range(6) if max(names, key=lambda name: rank(f"c{n}", name)) == names[1]]
    fresh = [message(Ping(n=100 + n), conversation=f"fresh{n}") for n in range(20)]
    await send(tail_world, fresh)
    await eventually(lambda: len(first.ended) + len(second.ended) == 20, tail_world.patience)
    assert {n for n in first.ended + second.ended if n < 100} == set()
    for n, gate in gates.items():
        gate.set()
        await eventually(lambda n=n: n + 6 in first.ended + second.ended, tail_world.patience)
    assert {n for n in second.ended if n < 100} == {n + 6 for n in theirs}
    assert {n for n in first.ended if n < 100} == {*range(12)} - {n + 6 for n in theirs}
    await eventually(lambda: len(tail_world.receipts("Pinger")) == 32, tail_world.patience)
    answered_once_and_in_order(tail_world, [*sent, *fresh])


async def test_an_instance_alone_writes_nothing_and_with_company_renews(tail_world: Any) -> None:
    moments = Moments()
    await tail_world.host(Sharer(), timing=moments.timing())
    await moments.advance(100)
    assert [row["kind"] for row in tail_world.rows()] == [INSTANCE_CHANGED]
    other = await tail_world.host(Sharer(), timing=moments.timing())
    await eventually(lambda: is_joined(other), tail_world.patience)
    await moments.advance(30, step=0.5)
    renewals = Counter(fact["instance"] for fact in instances(tail_world, "renewed"))
    assert len(renewals) == 2
    assert all(6 <= count <= 10 for count in renewals.values()), renewals
    assert instances(tail_world, "ended") == []
    await tail_world.stop(other)
    count = len(tail_world.rows())
    await moments.advance(30)
    assert len(tail_world.rows()) == count


# --- somebody does ---------------------------------------------------------------------------------------------------


async def abandoned(tail_world: Any, moments: Moments, worker: Sharer) -> tuple[Host, Asleep]:
    """A host that stops renewing: its loop lives, for a test has one loop, but its lease is as that of one that hangs."""
    sleeper = Asleep(moments)
    return await tail_world.host(worker, timing=sleeper.timing), sleeper


async def test_who_does_not_renew_is_taken_over_and_begins_again(tail_world: Any) -> None:
    moments = Moments()
    gates = {n: asyncio.Event() for n in range(8)}
    lazy, awake = Sharer(gates), Sharer()
    host, sleeper = await abandoned(tail_world, moments, lazy)
    other = await tail_world.host(awake, timing=moments.timing())
    await eventually(lambda: is_joined(other), tail_world.patience)
    names = [host.instances["Pinger"].name, other.instances["Pinger"].name]
    mine = [f"c{n}" for n in range(40) if max(names, key=lambda name: rank(f"c{n}", name)) == names[0]][:8]
    sent = [message(Ping(n=n), conversation=mine[n % 8]) for n in range(24)]
    await send(tail_world, sent)
    await eventually(lambda: len(lazy.began) == 8, tail_world.patience)
    sleeper.asleep.set()
    await moments.advance(9)
    assert instances(tail_world, "ended") == []
    assert awake.ended == []
    await moments.advance(6)
    (ended,) = await eventually(lambda: instances(tail_world, "ended"), tail_world.patience)
    assert (ended["instance"], ended["by"]) == (names[0], names[1])
    await eventually(lambda: sorted(awake.ended) == list(range(24)), tail_world.patience)
    for gate in gates.values():
        gate.set()
    await eventually(lambda: sorted(lazy.ended) == list(range(8)), tail_world.patience)
    sleeper.wake()
    await moments.advance(1)
    await eventually(lambda: is_joined(host) and host.instances["Pinger"].name != names[0], tail_world.patience)
    assert [fact["instance"] for fact in instances(tail_world, "started")] == [*names, host.instances["Pinger"].name]
    again = [message(Ping(n=100 + n), conversation=f"again{n}") for n in range(60)]
    await send(tail_world, again)
    await eventually(lambda: len(tail_world.receipts("Pinger")) == 84, tail_world.patience)
    assert min(len([n for n in worker.ended if n >= 100]) for worker in (lazy, awake)) > 5
    answered_once_and_in_order(tail_world, [*sent, *again])


async def test_a_process_known_to_be_dead_is_taken_over_at_once(tail_world: Any) -> None:
    moments = Moments()
    sent = [message(Ping(n=n), conversation=f"c{n}") for n in range(20)]
    gates = {n: asyncio.Event() for n in range(20)}
    first, second = Sharer(gates), Sharer()
    _, sleeper = await abandoned(tail_world, moments, first)
    await send(tail_world, sent)
    await eventually(lambda: len(first.began) == 8, tail_world.patience)
    (fact,) = instances(tail_world, "started")
    sleeper.asleep.set()
    await tail_world.host(second, timing=moments.timing(lambda where: False if where == fact["host"] else None))
    await eventually(lambda: sorted(second.ended) == list(range(20)), tail_world.patience)
    assert [one["instance"] for one in instances(tail_world, "ended")] == [fact["instance"]]
    for gate in gates.values():
        gate.set()
    await eventually(lambda: len(tail_world.receipts("Pinger")) == 20, tail_world.patience)
    answered_once_and_in_order(tail_world, sent)


class DeafBus(MemoryBus):
    """Hears nothing while `deaf`, as the bus of a process that is not run; a look, or a commit, makes up for it."""

    def __init__(self, memory: MemoryLog) -> None:
        self.deaf = False
        self._missed: list[tuple[int, Any, bool]] = []
        super().__init__(memory)

    def _fold(self, version: int, commit: Any, own: bool) -> None:
        self._missed.append((version, commit, own))
        if not self.deaf:
            self.catch_up()

    def submit(self, messages: Sequence[Message]) -> Future[int]:
        self.catch_up()
        return super().submit(messages)

    def catch_up(self) -> int:
        while self._missed:
            super()._fold(*self._missed.pop(0))
        return super().catch_up()


async def test_after_a_pause_nothing_is_taken_before_a_look_at_the_log() -> None:
    world, moments, gate = MemoryWorld(), Moments(), asyncio.Event()
    lazy, awake = OneAtATime({0: gate}), Sharer()
    bus = DeafBus(world.memory)
    sleeper = Asleep(moments)
    await world.host(lazy, timing=sleeper.timing, bus=bus)
    await send(world, [message(Ping(n=n), conversation=f"c{n}") for n in range(5)])
    await eventually(lambda: lazy.began == [0])
    bus.deaf = True
    sleeper.asleep.set()
    await world.host(awake, timing=moments.timing())
    await moments.advance(15)
    await eventually(lambda: sorted(awake.ended) == list(range(5)))
    gate.set()
    await eventually(lambda: lazy.ended == [0])
    await moments.advance(1)
    assert lazy.ended == [0]
    assert len(world.receipts("Pinger")) == 5
    await world.close()
