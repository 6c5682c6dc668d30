"""One world a bus: the same log seen by several hosts, by an outsider, and by whoever reads its rows without us."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from bus.base import Bus, Feed
from bus.client import TailraceClient
from bus.fold import State
from bus.log.bus import LogBus
from bus.log.store import Location, within
from bus.log.table import DeltaLog
from bus.memory import MemoryBus, MemoryLog
from bus.tail import TailFeed
from bus.trust import TrustEverybody
from schemas.envelope import EVERYONE, Message
from schemas.payloads import Payload
from schemas.tables import AGENT_MESSAGES
from workers.runtime.base import Context, Outgoing, Received, Worker, event, reply
from workers.runtime.clock import Clock, SystemClock
from workers.runtime.host import Host
from workers.runtime.leases import Timing
from workers.runtime.middleware import Middleware
from workers.runtime.middleware.retry import Retry
from workers.runtime.middleware.time_limit import time_limit


class Ping(Payload):
    n: int


class Pong(Payload):
    n: int


class Rang(Payload):
    """An event."""

    n: int


class Unheard(Payload):
    """An event nobody subscribes to."""

    n: int


class HastyClock:
    """Whoever sleeps gets the time at once."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        await asyncio.sleep(0)


class Pinger(Worker):
    """Answers Ping with Pong. `gate`: handlings wait for it. `fails`: attempts a message that raise first."""

    handles = (Ping,)

    def __init__(self, gate: asyncio.Event | None = None, fails: int = 0, rings: bool = False) -> None:
        self.gate, self.fails, self.rings = gate, fails, rings
        self.began: list[int] = []
        self.ended: list[int] = []
        self.attempts: list[int] = []

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        assert isinstance(message.payload, Ping)
        self.began.append(message.payload.n)
        self.attempts.append(context.attempt)
        if self.gate is not None:
            await self.gate.wait()
        if context.attempt <= self.fails:
            raise RuntimeError(f"attempt {context.attempt} was meant to fail")
        self.ended.append(message.payload.n)
        outputs = [reply(message, Pong(n=message.payload.n))]
        return [*outputs, event(Rang(n=message.payload.n))] if self.rings else outputs


class Listener(Worker):
    """Subscribes to Rang, and answers each event with another one."""

    subscribes = (Rang,)

    def __init__(self) -> None:
        self.heard: list[int] = []

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        assert isinstance(message.payload, Rang)
        self.heard.append(message.payload.n)
        return [event(Unheard(n=message.payload.n))]


_numbers = itertools.count(1)


def message(payload: Payload, to: str = "Pinger", conversation: str | None = None, **envelope: Any) -> Message:
    """A request from a person, as a client would write it."""
    return Message(
        **{
            "message_id": f"m{next(_numbers)}-{uuid.uuid4().hex[:6]}",
            "correlation_id": conversation or f"c-{uuid.uuid4().hex[:8]}",
            "from_agent": "user:eli",
            "to_agent": to,
            "message_type": "event" if to == EVERYONE else "request",
            "kind": payload.kind(),
            "content": payload.model_dump_json(),
            "timestamp": 1_767_225_600_000_000,
            "principal": "eli",
            **envelope,
        }
    )


class World(Protocol):
    """What the contract needs of a bus and its feed. `patience`: seconds until something must have happened."""

    patience: float

    def bus(self, state: State | None = None, **how: Any) -> Bus: ...

    def feed(self, bus: Bus) -> Feed: ...

    def rows(self) -> list[dict[str, Any]]:
        """Every row of the log, valid or not, in log order; read without our own code where there is a table."""
        ...


class _Worlds:
    """What all of them share: hosts and buses that are closed at the end, however it came."""

    patience = 10.0

    def __init__(self) -> None:
        self._buses: list[Bus] = []
        self._hosts: list[Host] = []
        self.feeds: list[Feed] = []

    def _opened(self, bus: Bus) -> Bus:
        self._buses.append(bus)
        return bus

    async def host(
        self,
        *workers: Worker,
        clock: Clock | None = None,
        inbox_capacity: int | None = None,
        middlewares: Sequence[Middleware] | None = None,
        bus: Bus | None = None,
        feed: Callable[[Bus], Feed] | None = None,
        timing: Timing | None = None,
    ) -> Host:
        """A host that runs: its own bus and feed, the others' log."""
        clock = clock or SystemClock()
        subscriptions = {worker.name: frozenset(p.kind() for p in worker.subscribes) for worker in workers}
        bus = bus or self.bus(State(subscriptions))
        self.feeds.append((feed or self.feed)(bus))
        around = [Retry(clock, first_wait_s=0.001), time_limit] if middlewares is None else middlewares
        host = Host(
            workers,
            bus,
            self.feeds[-1],
            TrustEverybody(),
            clock,
            around,
            inbox_capacity=inbox_capacity,
            timing=timing,
        )
        await host.start()
        self._hosts.append(host)
        return host

    async def stop(self, host: Host) -> None:
        self._hosts.remove(host)
        await host.stop()

    def client(self, user: str = "eli") -> TailraceClient:
        """As another service has it: it knows nothing of the log's past."""
        return TailraceClient(user=user, bus=self.bus(follow_only=True))

    async def close(self) -> None:
        for host in self._hosts:
            await host.stop()
        for bus in self._buses:
            bus.close()

    def receipts(self, agent: str | None = None) -> list[dict[str, Any]]:
        return [r for r in self.rows() if r["message_type"] == "receipt" and agent in (None, r["from_agent"])]

    def of_kind(self, *kinds: str) -> list[dict[str, Any]]:
        return [row for row in self.rows() if row["kind"] in kinds]


class MemoryWorld(_Worlds):
    def __init__(self) -> None:
        super().__init__()
        self.memory = MemoryLog()

    def bus(self, state: State | None = None, **how: Any) -> Bus:
        return self._opened(MemoryBus(self.memory, state=state))

    def feed(self, bus: Bus) -> Feed:
        return TailFeed(bus)

    def rows(self) -> list[dict[str, Any]]:
        return [row.model_dump() for commit in list(self.memory.commits) for row in commit]


class LogWorld(_Worlds):
    def __init__(self, place: Location) -> None:
        super().__init__()
        self.table = DeltaLog(within(place, "agent_messages"), AGENT_MESSAGES)
        self.table.create()

    def bus(self, state: State | None = None, **how: Any) -> Bus:
        return self._opened(LogBus(DeltaLog(self.table.uri, AGENT_MESSAGES), state=state, **how))

    def feed(self, bus: Bus) -> Feed:
        return TailFeed(bus)

    def rows(self) -> list[dict[str, Any]]:
        return read_rows(self.table.uri)

    def foreign(self, *rows: dict[str, Any]) -> int:
        """Append rows as somebody would who knows the table's columns and none of its rules; returns the version."""
        schema = AGENT_MESSAGES.file_schema
        columns = [pa.array([row.get(f.name) for row in rows], type=f.type) for f in schema]
        return self.table.append(pa.Table.from_arrays(columns, schema=schema))


class StreamingWorld(LogWorld):
    """Hosts are fed by Structured Streaming; outsiders use the tail."""

    patience = 60.0

    def __init__(self, folder: Path, spark: Any) -> None:
        super().__init__(folder)
        self.folder = folder
        self._spark = spark

    def feed(self, bus: Bus) -> Feed:
        from bus.streaming.feed import StreamingFeed

        return StreamingFeed(bus, self.table, self.folder / "checkpoints" / uuid.uuid4().hex, lambda: self._spark)


def read_rows(place: Location) -> list[dict[str, Any]]:
    """All rows of a table by deltalake, in log order."""
    import stamina
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    for attempt in stamina.retry_context(on=DeltaError, attempts=10, wait_initial=0.01, wait_max=0.2):
        with attempt:
            rows = DeltaTable(str(place)).to_pyarrow_table().to_pylist()
    return sorted(rows, key=lambda row: (_or(row.get("log_version")), _or(row.get("seq"))))


def _or(value: int | None) -> int:
    return -1 if value is None else value


async def eventually(condition: Callable[[], Any], timeout: float = 10.0) -> Any:
    """Wait until `condition()` is true; what it says is looked at in ever longer steps, for reading a table is not free."""
    step = 0.001
    async with asyncio.timeout(timeout):
        while not (found := condition()):
            await asyncio.sleep(step)
            step = min(step * 1.5, 0.1)
        return found


def result(future: Future[int]) -> int:
    return future.result(timeout=30)


def error_of(future: Future[int]) -> BaseException | None:
    return future.exception(timeout=30)
