"""Shared memory in a replay: what a handler read is read again, what it writes is only noted."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path

import pytest

from bus.fold import valid_rows
from bus.log.table import DeltaLog
from bus.memory import MemoryBus, MemoryLog
from bus.shared import Asker, Rights, SharedMemory
from bus.tail import TailFeed
from bus.trust import TrustEverybody
from schemas.tables import AGENT_SHARED_MEMORY
from tests.contract.harness import Ping, Pong, message
from tests.fakes import eventually
from workers.adapters.replaying import MemoryThen
from workers.runtime.base import Context, Outgoing, Received, Worker, reply
from workers.runtime.clock import SystemClock
from workers.runtime.comparing import Comparison, compare
from workers.runtime.host import Host
from workers.runtime.memory import HandlerMemory
from workers.runtime.replaying import Moment, Recording, Replayer, recordings


class Counting(Worker):
    """Counts across conversations."""

    handles = (Ping,)
    step = 1

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        before = await context.memory.get("counters", "pings") or 0
        await context.memory.put("counters", "pings", before + self.step)
        assert await context.memory.get("counters", "pings") == before + self.step
        return [reply(message, Pong(n=before))]


class Hasty(Counting):
    name = "Counting"
    step = 2


@pytest.fixture
def table(tmp_path: Path) -> DeltaLog:
    made = DeltaLog(tmp_path / "agent_shared_memory", AGENT_SHARED_MEMORY)
    made.create()
    return made


@pytest.fixture
async def recorded(table: DeltaLog) -> list[Recording]:
    """Three pings, one after the other, and then somebody else's word."""
    shared = SharedMemory(table)
    log = MemoryLog()
    bus, outside = MemoryBus(log), MemoryBus(log)
    memory_of = partial(HandlerMemory, shared)
    host = Host([Counting()], bus, TailFeed(bus), TrustEverybody(), SystemClock(), [], memory_of=memory_of)
    await host.start()
    for n in range(3):
        asked = message(Ping(n=n), "Counting")
        outside.submit([asked]).result()
        await eventually(lambda asked=asked: len(outside.conversation(asked.correlation_id)) == 2)
    await host.stop()
    shared.put("counters", "pings", 1000, Asker("user:eli", "eli"))
    rows = valid_rows(itertools.chain(*log.commits))
    conversations = dict.fromkeys(row.correlation_id for row in rows)
    return [one for name in conversations for one in recordings([r for r in rows if r.correlation_id == name])]


async def replayed(table: DeltaLog, worker: Worker, found: list[Recording]) -> list[Comparison]:
    moment = Moment()
    then = MemoryThen(table, Rights(), lambda _: True, moment)
    replayer = Replayer(worker, TrustEverybody(), moment, memory_of=then)
    whole = [Recording(one.message, one.receipt, one.rows, then.recorded(one)) for one in found]
    return [compare(one, await replayer.replay(one)) for one in whole]


async def test_what_was_read_is_read_again_and_nothing_is_written(table: DeltaLog, recorded: list[Recording]) -> None:
    before = table.head()
    assert await replayed(table, Counting(), recorded) == [Comparison("same", "", ())] * 3
    assert table.head() == before


async def test_what_would_be_written_differently_is_a_difference(table: DeltaLog, recorded: list[Recording]) -> None:
    found = await replayed(table, Hasty(), recorded)
    assert [one.verdict for one in found] == ["different"] * 3
    said = [(d.output, d.path, d.then, d.now) for one in found for d in one.differences]
    assert said == [("MemoryFact", "value", n + 1, n + 2) for n in range(3)]


async def test_a_home_that_shares_nothing_has_no_memory_to_replay(recorded: list[Recording]) -> None:
    moment = Moment()
    nothing = MemoryThen(None, Rights(), lambda _: True, moment)
    replayer = Replayer(Counting(), TrustEverybody(), moment, memory_of=nothing)
    assert nothing.recorded(recorded[0]) == []
    assert compare(recorded[0], await replayer.replay(recorded[0])).verdict == "failed"
