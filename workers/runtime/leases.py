"""The leases of a host: says that its instances live, answers newcomers, ends the leases of those who do not answer.

An instance alone in its agent writes nothing: an idle host commits nothing. With company it renews every third of the
duration. Membership has the rules of who owns what; this module moves rows between it and the bus.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from bus.base import Arrival, Bus
from bus.errors import Superseded
from bus.fold import INSTANCE_CHANGED
from schemas.envelope import EVERYONE, Message
from schemas.payloads import InstanceChanged
from workers.runtime import whereabouts
from workers.runtime.base import Worker
from workers.runtime.clock import Clock, micros
from workers.runtime.membership import Change, Membership, Seat

log = structlog.get_logger(__name__)

#: Seconds a lease holds without a renewal.
DURATION_S = 10.0
#: While it holds, a lease is renewed and those of others are looked after so many times.
RENEWALS, LOOKS = 3, 10


def uptime() -> float:
    """Seconds that only ever grow, and grow while the machine sleeps where the system can tell."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


async def wait(woken: asyncio.Event, seconds: float | None) -> None:
    """Until `woken`, or for so long; None is for ever."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await woken.wait()


@dataclass(frozen=True)
class Timing:
    """How long a lease holds and what time it is. `alive`: whether the process there runs, None when nobody can tell."""

    duration_s: float = DURATION_S
    now: Callable[[], float] = uptime
    wait: Callable[[asyncio.Event, float | None], Awaitable[None]] = wait
    alive: Callable[[str], bool | None] = whereabouts.alive


@dataclass
class Holder:
    """An instance as the holder of a lease. A lease that others ended is followed by another, under a new `name`.

    `on_change`: whose conversations are whose may have changed. `on_freed`: nobody keeps this conversation any more.
    `under_way`: messages that were taken and have no receipt yet, each with its conversation.
    """

    worker: Worker
    on_change: Callable[[Change], None]
    on_freed: Callable[[str], None]
    name: str = ""
    under_way: dict[str, str] = field(default_factory=dict)
    membership: Membership = field(init=False)
    renewed_at: float = 0.0

    @property
    def agent(self) -> str:
        return self.worker.name

    @property
    def busy(self) -> list[str]:
        """Messages under way here whose conversations are meant for somebody else: those others have to wait for."""
        return sorted(
            m for m, conversation in self.under_way.items() if self.membership.owner(conversation) != self.name
        )


class Leases:
    """Used from the host's event loop, but for `_arrived`."""

    def __init__(self, bus: Bus, clock: Clock, engine: str, timing: Timing) -> None:
        self._bus = bus
        self._clock = clock
        self._engine = engine
        self._timing = timing
        self._where = whereabouts.whereabouts()
        self._holders: dict[str, Holder] = {}
        self._woken = asyncio.Event()
        self._looking = asyncio.Lock()
        self._looked = self._stepped = timing.now()
        #: Messages others keep, of any agent here: their receipts are worth hearing of.
        self._held: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None

    # --- life --------------------------------------------------------------------------------------------------------

    def add(self, holder: Holder) -> None:
        """Before `open`."""
        self._holders[holder.agent] = holder
        holder.name = _new_name(holder.agent)

    def open(self) -> None:
        """Begin to follow the leases of others."""
        self._loop = asyncio.get_running_loop()
        self._unsubscribe = self._bus.subscribe(self._arrived)
        for holder in self._holders.values():
            self._be_born(holder)
        self._note_held()

    async def join(self) -> None:
        """Say that the instances have started, and bury those of this machine that did not live to say they stopped."""
        await self._say([(holder, self._fact(holder, "started")) for holder in self._holders.values()])
        self._looked = self._stepped = self._timing.now()
        for holder in self._holders.values():
            holder.renewed_at = self._stepped
        await self._step()
        self._task = asyncio.create_task(self._tend())

    async def leave(self, say: bool = True) -> None:
        """Let go, once nothing is under way; without `say` because nobody would hear."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._unsubscribe()
        if say:
            await self._say([(holder, self._fact(holder, "stopped")) for holder in self._holders.values()])

    # --- whether we are who we think we are --------------------------------------------------------------------------

    @property
    def is_stale(self) -> bool:
        """Whether so much time has passed since the last look at the log that a lease of ours may have been ended."""
        return self._timing.now() - self._looked > self._timing.duration_s / RENEWALS

    async def look(self) -> None:
        """After a pause, however it came about: see what the log has decided meanwhile."""
        async with self._looking:
            if self.is_stale:
                began = self._timing.now()
                await asyncio.to_thread(self._bus.catch_up)
                self._looked = began

    async def holds(self, holder: Holder, name: str) -> bool:
        """Whether the lease `name` is live by the log as it is now."""
        await asyncio.to_thread(self._bus.catch_up)
        return name == holder.name and name in self._bus.state.leases

    # --- rows in -----------------------------------------------------------------------------------------------------

    def _arrived(self, arrival: Arrival) -> None:
        """From the bus's thread."""
        rows = [
            row
            for row in arrival.rows
            if (row.kind == INSTANCE_CHANGED and row.from_agent in self._holders)
            or (row.message_type == "receipt" and row.causation_id in self._held)
        ]
        if rows and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._absorb, rows)

    def _absorb(self, rows: Sequence[Message]) -> None:
        for row in rows:
            holder = self._holders.get(row.from_agent)
            if holder is None:
                continue
            membership = holder.membership
            if row.message_type == "receipt":
                if (freed := membership.receipted(row.causation_id or "")) is not None:
                    self._note_held()
                    holder.on_freed(freed)
                continue
            alone = not membership.has_company
            change = membership.absorb(row, self._timing.now())
            self._note_held()
            if change:
                holder.on_change(change)
            lost = membership.has_begun and not membership.is_live
            if lost or membership.owes_answer or (alone and membership.has_company):
                self._woken.set()

    def _note_held(self) -> None:
        self._held = {message for holder in self._holders.values() for message in holder.membership.kept}

    def _be_born(self, holder: Holder) -> None:
        def conversation_of(message_id: str) -> str | None:
            # First listen for its receipt, then look: a receipt in between is not missed.
            self._held.add(message_id)
            row = self._bus.state.open.get((message_id, holder.agent))
            return None if row is None else row.correlation_id

        leases = list(self._bus.state.leases.values())
        holder.membership = Membership(holder.agent, holder.name, leases, self._timing.now(), conversation_of)

    # --- rows out ----------------------------------------------------------------------------------------------------

    async def _tend(self) -> None:
        while True:
            company = any(holder.membership.has_company for holder in self._holders.values())
            await self._timing.wait(self._woken, self._timing.duration_s / LOOKS if company else None)
            self._woken.clear()
            try:
                await self._step()
            except Exception:
                # The bus said no. Whoever cannot renew loses its lease, and work is never lost by that.
                log.exception("leases.failed")
                await self._timing.wait(asyncio.Event(), self._timing.duration_s / LOOKS)
                self._woken.set()

    async def _step(self) -> None:
        """Whatever is due now."""
        now = self._timing.now()
        away, self._stepped = now - self._stepped > self._timing.duration_s / 2, now
        for holder in self._holders.values():
            if away:
                holder.membership.watch_anew(now)
            if holder.membership.has_begun and not holder.membership.is_live:
                await self._begin_again(holder)
        await self._renew([h for h in self._holders.values() if self._is_due(h, now)], now)
        for holder in self._holders.values():
            for seat in holder.membership.others:
                if self._timing.alive(seat.host) is False or holder.membership.is_overdue(seat, now):
                    await self._end(holder, seat)

    def _is_due(self, holder: Holder, now: float) -> bool:
        membership = holder.membership
        late = now - holder.renewed_at >= self._timing.duration_s / RENEWALS
        return membership.is_live and (membership.owes_answer or (membership.has_company and late))

    async def _renew(self, holders: Sequence[Holder], now: float) -> None:
        if not holders:
            return
        for holder in holders:
            holder.renewed_at = now
        try:
            await self._say(
                [(h, self._fact(h, "renewed", number=h.membership.number + 1, busy=h.busy)) for h in holders]
            )
        except Superseded as error:
            if len(holders) > 1:
                for holder in holders:
                    await self._renew([holder], now)
                return
            # Others ended it. Their row is on its way to us, and wakes us.
            log.warning("lease.lost", instance=holders[0].name, key=error.key)

    async def _end(self, holder: Holder, seat: Seat) -> None:
        ended = self._fact(holder, "ended", instance=seat.instance, host=seat.host, number=seat.number, by=holder.name)
        with contextlib.suppress(Superseded):  # it has renewed after all, or another observer was faster
            await self._say([(holder, ended)])
            log.warning("lease.ended", instance=seat.instance, host=whereabouts.shown(seat.host), by=holder.name)

    async def _begin_again(self, holder: Holder) -> None:
        """Our lease was ended while we slept. What is under way goes on, and its receipt decides; nothing else is ours."""
        before, holder.name = holder.name, _new_name(holder.agent)
        self._be_born(holder)
        self._note_held()
        holder.on_change(Change(lost=True))
        await self._say([(holder, self._fact(holder, "started", busy=holder.busy))])
        holder.renewed_at = self._timing.now()
        log.warning("lease.begun_again", instance=holder.name, before=before)

    def _fact(self, holder: Holder, step: str, **said: Any) -> InstanceChanged:
        known = {
            "agent": holder.agent,
            "instance": holder.name,
            "host": self._where,
            "engine": self._engine,
            "step": step,
            "kinds": sorted(holder.worker.kinds()),
            "duration_ms": round(self._timing.duration_s * 1000),
            "subscribes": sorted(kind.kind() for kind in holder.worker.subscribes),
            "seen": holder.membership.seen,
        }
        return InstanceChanged(**(known | said))

    async def _say(self, facts: Sequence[tuple[Holder, InstanceChanged]]) -> None:
        now = micros(self._clock.now())
        rows = [
            Message(
                message_id=uuid.uuid4().hex,
                correlation_id=fact.instance,
                from_agent=holder.agent,
                to_agent=EVERYONE,
                message_type="event",
                kind=INSTANCE_CHANGED,
                content=fact.model_dump_json(),
                timestamp=now,
                principal=f"agent:{holder.agent}",
            )
            for holder, fact in facts
        ]
        await asyncio.wrap_future(self._bus.submit(rows))


def _new_name(agent: str) -> str:
    return f"{agent}-{uuid.uuid4().hex[:8]}"
