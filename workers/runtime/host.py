"""A host: one process, one bus, one feed, many instances. Rows come in, each goes to the inbox of whom it addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import structlog

from bus.base import Bus, Feed
from bus.errors import Superseded
from bus.trust import Trust
from schemas.envelope import Message
from workers.runtime.base import Worker
from workers.runtime.clock import Clock
from workers.runtime.commits import Commits
from workers.runtime.inbox import Inbox
from workers.runtime.leases import Holder, Leases, Timing
from workers.runtime.membership import Change
from workers.runtime.middleware import Middleware
from workers.runtime.redrive import MayRedrive
from workers.runtime.runner import MemoryOf, Runner, no_memory, nobody

log = structlog.get_logger(__name__)

#: Messages a host may have handled whose receipts are not in the log yet.
UNCOMMITTED = 1_000


@dataclass
class Instance:
    """One running copy of an agent."""

    worker: Worker
    runner: Runner
    inbox: Inbox
    lease: Holder
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.lease.name


class Companion(Protocol):
    """What runs beside the instances for as long as the host does: the projector."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Host:
    """Runs instances until stopped. `engine` is what the feed is called, for the registry."""

    def __init__(
        self,
        workers: Sequence[Worker],
        bus: Bus,
        feed: Feed,
        trust: Trust,
        clock: Clock,
        middlewares: Sequence[Middleware],
        engine: str = "tail",
        inbox_capacity: int | None = None,
        companions: Sequence[Companion] = (),
        timing: Timing | None = None,
        may_redrive: MayRedrive = nobody,
        memory_of: MemoryOf = no_memory,
    ) -> None:
        self._companions = companions
        self._bus = bus
        self._feed = feed
        self._clock = clock
        self._engine = engine
        self._leases = Leases(bus, clock, engine, timing or Timing())
        self._commits = Commits(bus)
        #: Handled, and not yet in the log: a handler's slot is free meanwhile, so that commits can be shared by many.
        self._uncommitted = 0
        self._room = asyncio.Event()
        self._committing: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._delayed: dict[tuple[str, str], asyncio.Task[None]] = {}
        #: A commit failed, and is tried again.
        self.failed = asyncio.Event()
        #: Why the log cannot be followed any more, once that is so: whoever runs the host should end it.
        self.lost: asyncio.Future[BaseException] | None = None
        self.instances: dict[str, Instance] = {}
        for worker in workers:
            lease = Holder(worker, partial(self._reshare, worker.name), partial(self._offer_again, worker.name))
            self._leases.add(lease)
            runner = Runner(worker, lease.name, bus, trust, clock, middlewares, self._commits, may_redrive, memory_of)
            runner.still_ours = partial(self._still_ours, lease)
            inbox = Inbox() if inbox_capacity is None else Inbox(inbox_capacity)
            self.instances[worker.name] = Instance(worker, runner, inbox, lease)

    async def start(self) -> None:
        """Begin to deliver and to handle."""
        self._loop = asyncio.get_running_loop()
        self.lost = self._loop.create_future()
        self._bus.on_failure = self._bus_failed
        self._leases.open()
        for instance in self.instances.values():
            for _ in range(instance.worker.concurrency):
                instance.tasks.append(asyncio.create_task(self._work(instance)))
        for companion in self._companions:
            await asyncio.to_thread(companion.start)
        # Others let go of what is ours as soon as they read that we started, so we say it when we can receive.
        await asyncio.to_thread(self._feed.start, list(self.instances), self._deliver)
        await self._leases.join()
        log.info("host.started", agents=list(self.instances), engine=self._engine)

    async def stop(self, patience_s: float = 20.0) -> None:
        """Drain: take nothing new, finish what is under way, say so in the log, close. What waits stays in the log."""
        for instance in self.instances.values():
            instance.inbox.drain()
        await asyncio.to_thread(self._feed.stop)
        delayed = list(self._delayed.values())
        for task in delayed:
            task.cancel()
        idle = [task for instance in self.instances.values() for task in instance.tasks]
        try:
            async with asyncio.timeout(patience_s):
                await asyncio.gather(*(instance.inbox.settled() for instance in self.instances.values()))
        except TimeoutError:
            log.warning("host.drain_timeout", patience_s=patience_s)
        under_way = [*idle, *self._committing]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, *delayed, return_exceptions=True)
        await self._leases.leave(say=self.lost is None or not self.lost.done())
        for instance in self.instances.values():
            await instance.worker.close()
        for companion in self._companions:
            await asyncio.to_thread(companion.stop)
        await asyncio.to_thread(self._bus.close)
        log.info("host.stopped", agents=list(self.instances))

    def _bus_failed(self, error: BaseException) -> None:
        """From the bus's thread."""

        def tell() -> None:
            if self.lost is not None and not self.lost.done():
                self.lost.set_result(error)

        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(tell)

    # --- rows in -----------------------------------------------------------------------------------------------------

    def _deliver(self, rows: Sequence[Message]) -> None:
        """From the feed's thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._accept, list(rows))

    def _accept(self, rows: Sequence[Message]) -> None:
        for row in rows:
            # Not by who subscribes now: for whom a message is was decided where it stands in the log.
            for agent, instance in self.instances.items():
                # What counts is the row that the log's order made the message, not a later copy that a feed may bring.
                known = self._bus.state.open.get((row.message_id, agent))
                if known is not None:
                    self._offer(instance, known)

    def _offer(self, instance: Instance, row: Message) -> None:
        """What another instance owns is not taken in: it is in the log, and comes again when it becomes ours."""
        if instance.lease.membership.owns(row.correlation_id):
            self._put(instance, row)

    def _reshare(self, agent: str, change: Change) -> None:
        """Instances came or went: let go of what is not ours any more, take in what is."""
        instance = self.instances[agent]
        instance.runner.instance = instance.name
        owns = instance.lease.membership.owns
        if change.lost:
            for conversation in [one for one in instance.inbox.waiting if not owns(one)]:
                instance.inbox.drop(conversation)
        if change.gained:
            for row in self._bus.state.open_for(agent):
                self._offer(instance, row)

    def _offer_again(self, agent: str, conversation: str) -> None:
        """Nobody keeps this conversation any more."""
        for row in self._bus.state.open_for(agent):
            if row.correlation_id == conversation:
                self._offer(self.instances[agent], row)

    def _put(self, instance: Instance, row: Message) -> None:
        wait = 0.0 if row.not_before is None else row.not_before / 1e6 - self._clock.now().timestamp()
        if wait <= 0:
            instance.inbox.put(row)
            return

        key = (row.message_id, instance.worker.name)

        async def later() -> None:
            await self._clock.sleep(wait)
            del self._delayed[key]
            self._accept([row])

        if key not in self._delayed:
            self._delayed[key] = asyncio.create_task(later())

    # --- the loop ----------------------------------------------------------------------------------------------------

    async def _work(self, instance: Instance) -> None:
        while True:
            message = await instance.inbox.get()
            if self._leases.is_stale:
                await self._look(message)
            if not self._may_take(instance, message):
                instance.inbox.done(message)
                continue
            instance.lease.under_way[message.message_id] = message.correlation_id
            rows = await instance.runner.handle(message)
            while self._uncommitted >= UNCOMMITTED:
                self._room.clear()  # set once a commit, where a semaphore would wake a task for each message of it
                await self._room.wait()
            self._uncommitted += 1
            self._commits.submit(rows, partial(self._committed, instance, message, rows))

    async def _look(self, message: Message) -> None:
        """After a pause, others may have ended our lease and gone on."""
        while self._leases.is_stale:
            try:
                await self._leases.look()
            except Exception:
                log.exception("host.cannot_look", message=message.message_id)
                self.failed.set()
                await self._clock.sleep(1.0)

    def _may_take(self, instance: Instance, message: Message) -> bool:
        """Whether it still waits, and still for us."""
        is_open = (message.message_id, instance.worker.name) in self._bus.state.open
        return is_open and instance.lease.membership.owns(message.correlation_id)

    async def _still_ours(self, lease: Holder, message: Message, name: str) -> bool:
        """Before an effect, which nothing can take back: as the log is now, not as we last saw it."""
        return await self._leases.holds(lease, name) and (message.message_id, lease.agent) in self._bus.state.open

    def _committed(
        self, instance: Instance, message: Message, rows: Sequence[Message], error: BaseException | None, _: int
    ) -> None:
        """A handling is in the log, or another's is, or the bus itself said no."""
        if isinstance(error, Superseded):
            log.info("handling.superseded", key=error.key)
        elif error is not None:
            log.error("host.commit_failed", message=message.message_id, error=repr(error))
            task = asyncio.create_task(self._commit_again(instance, message, rows))
            self._committing.add(task)
            task.add_done_callback(self._committing.discard)
            return
        self._settle(instance, message)

    async def _commit_again(self, instance: Instance, message: Message, rows: Sequence[Message]) -> None:
        """After a full disk, or the like. The message stays open, and first in its conversation: it is tried again until
        the bus takes it, or the host stops."""
        try:
            while True:
                self.failed.set()
                await self._clock.sleep(1.0)
                if (message.message_id, instance.worker.name) not in self._bus.state.open:
                    return
                try:
                    await instance.runner.commit(rows)
                    return
                except Exception:
                    log.exception("host.commit_failed", message=message.message_id)
        finally:
            self._settle(instance, message)

    def _settle(self, instance: Instance, message: Message) -> None:
        self._uncommitted -= 1
        self._room.set()
        instance.lease.under_way.pop(message.message_id, None)
        instance.inbox.done(message)
