"""What both clients are made of: one user on one bus. Nothing here waits for the log, except where it says so."""

from __future__ import annotations

import threading
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from bus.arrivals import Arrivals, is_response
from bus.base import Bus
from bus.compose import Composer, Item
from bus.errors import IdTaken, TimedOut
from bus.home import Home
from bus.logs import LateLogger
from bus.past import MemoryPast, Past, Position, TablePast
from bus.pressure import Advice, Nobody, Pressure, WhenBusy
from bus.subscription import Subscription
from bus.watch import Accept, Watch, accept_all
from schemas.envelope import EVERYONE, USER, Message
from schemas.payloads import Payload
from schemas.tables import AGENT_MESSAGES

log = LateLogger(__name__)

#: Messages, and characters of content, that one commit of `send_many` carries at most.
COMMIT_ROWS = 5_000
COMMIT_SIZE = 32 << 20
#: Behind every row of a commit.
END_OF_COMMIT = 1 << 62


@dataclass(frozen=True)
class Commit:
    """Messages handed to the bus together, and the version they get."""

    messages: list[Message]
    done: Future[int]


@dataclass
class Batch:
    """What one call sends. `own_ids`: some ids come from the producer. `found`: what stands in the log under each id."""

    messages: list[Message]
    own_ids: bool
    commits: list[Commit] = field(default_factory=list)
    found: dict[str, Message] = field(default_factory=dict)


class Session:
    """Safe for several threads."""

    def __init__(self, opened: Opened, composer: Composer, pressure: Pressure, when_busy: WhenBusy) -> None:
        self.bus = opened.bus
        self.accept = opened.accept
        self.past = opened.past
        self.composer = composer
        self._knows = opened.knows
        self._agents = opened.agents
        self._pressure = pressure
        self._when_busy = when_busy
        self._warned: set[str] = set()
        self._watch = Watch(self.bus, self.accept)
        self._subscriptions: weakref.WeakSet[Subscription] = weakref.WeakSet()
        self._closing = threading.Lock()
        self.bus.on_failure = self._failed

    def close(self) -> None:
        """Commits what was sent, then stops; whoever still waits hears Closed. Idempotent."""
        with self._closing:
            self.bus.close()
            self._watch.close()
            for subscription in list(self._subscriptions):
                subscription.close()

    def _failed(self, error: BaseException) -> None:
        """The bus cannot follow the log any more: whoever waits hears why."""
        self._watch.fail(error)
        for subscription in list(self._subscriptions):
            subscription.fail(error)

    # --- sending -----------------------------------------------------------------------------------------------------

    def batch(self, items: Sequence[Item]) -> Batch:
        """What `send_many` was given, as messages. Raises ValueError or ContentTooLarge before anything is sent."""
        own_ids = any(not isinstance(item, tuple) and item.get("message_id") for item in items)
        return Batch([self.composer.item(item) for item in items], own_ids)

    def pauses(self, messages: Sequence[Message], when_busy: WhenBusy | None) -> Iterator[float]:
        """Seconds to sleep until everybody addressed has room."""
        for agent in dict.fromkeys(message.to_agent for message in messages):
            if agent != EVERYONE:
                self._warn_of_unknown(agent)
                yield from self._pressure.pauses(agent, when_busy or self._when_busy)

    def _warn_of_unknown(self, agent: str) -> None:
        if agent in self._warned or self._knows(agent):
            return
        self._warned.add(agent)
        meant = get_close_matches(agent, self._agents(), n=1)
        log.warning(
            "client.unknown_agent",
            agent=agent,
            hint="no key speaks for it, so nothing can answer yet; the message waits in the log",
            **({"did_you_mean": meant[0]} if meant else {}),
        )

    def recall(self, batch: Batch) -> None:
        """Which of these messages are in the log already. Raises IdTaken when an id names another message there."""
        open_ids = [message.message_id for message in batch.messages if message.message_id not in batch.found]
        batch.found |= self.past.by_id(open_ids)
        for message in batch.messages:
            if (original := batch.found.get(message.message_id)) is not None:
                self._same(message, original)

    def _same(self, message: Message, original: Message) -> None:
        if (message.timestamp, message.content) == (original.timestamp, original.content):
            return  # this very row, or nobody could tell
        fields = ("from_agent", "to_agent", "kind")
        differs = next((name for name in fields if getattr(message, name) != getattr(original, name)), None)
        if differs is None and not self.accept(original):
            differs = "signature"
        if differs is not None:
            raise IdTaken(
                f"the id {message.message_id} names another message since version {original.log_version} (its {differs} "
                "differs); nothing was sent under it: choose an id that names one message only"
            )
        if message.content != original.content:
            log.warning("client.original_differs", message_id=message.message_id, version=original.log_version)

    def begin(self, batch: Batch) -> None:
        """Hand what is not in the log yet to the bus, commit by commit; does not wait."""
        unique = {message.message_id: message for message in reversed(batch.messages)}  # of two with an id, the first
        fresh = [m for m in batch.messages if m.message_id not in batch.found and unique[m.message_id] is m]
        self._watch.track(message.message_id for message in fresh)
        for part in _parts(fresh):
            batch.commits.append(Commit(part, self.bus.submit(part)))

    def collect(self, batch: Batch) -> None:
        """Take up what counts of what was committed. Always to be called after `begin`, whatever happened."""
        for commit in batch.commits:
            rows = self._watch.collect(message.message_id for message in commit.messages)
            batch.found |= {row.message_id: row for row in rows if row is not None}

    def settled(self, batch: Batch) -> list[Message]:
        """What counts of a batch that was committed, in its order. Reads the table when an id was used before."""
        if any(message.message_id not in batch.found for message in batch.messages):
            self.recall(batch)
        if batch.own_ids:  # another client may have been faster with the same id
            for message in batch.messages:
                self._same(message, batch.found[message.message_id])
        return [batch.found[message.message_id] for message in batch.messages]

    # --- answers -----------------------------------------------------------------------------------------------------

    def answered(self, sent: Message) -> Message | None:
        """The response, if it is in the log already."""
        rows = self.conversation(sent.correlation_id)
        return next((row for row in rows if is_response(row, sent.message_id)), None)

    @contextmanager
    def expecting(self, message_id: str) -> Iterator[Future[Message]]:
        answer = self._watch.expect(message_id)
        try:
            yield answer
        finally:
            self._watch.forget(message_id, answer)

    def find(self, some_id: str, timeout: float) -> Message:
        """The message with this id, or the first of the conversation with this id, now or as soon as it comes."""
        with self.listen() as arrivals:
            if begun := self.conversation(some_id):
                return begun[0]
            if (found := self.past.by_id([some_id]).get(some_id)) is not None and self.accept(found):
                return found
            row = arrivals.first(lambda row: some_id in (row.message_id, row.correlation_id), timeout)
            if row is None:
                raise TimedOut(
                    f"neither a message nor a conversation {some_id} is in the log; none came within {timeout:g} s"
                )
            return row

    # --- listening ---------------------------------------------------------------------------------------------------

    def subscribe(
        self, kinds: Sequence[type[Payload] | str], from_version: int | None, after: Message | Position | None
    ) -> Subscription:
        if not kinds:
            raise ValueError("subscribe to at least one kind: client.subscribe(KnowledgeAdded)")
        names = [kind if isinstance(kind, str) else kind.kind() for kind in kinds]
        if from_version is not None:
            after = (from_version - 1, END_OF_COMMIT)
        elif isinstance(after, Message):
            after = after.position
        subscription = Subscription(self.bus, self.past, names, self.accept, after)
        self._subscriptions.add(subscription)
        return subscription

    def listen(self) -> Arrivals:
        """What is committed from now on; a context manager."""
        return Arrivals(self.bus, self.accept)

    def conversation(self, correlation_id: str) -> list[Message]:
        """Valid messages so far, in log order, without receipts."""
        return [row for row in self.bus.conversation(correlation_id) if self.accept(row)]


def _parts(messages: Sequence[Message]) -> Iterator[list[Message]]:
    part: list[Message] = []
    size = 0
    for message in messages:
        if part and (len(part) >= COMMIT_ROWS or size + len(message.content) > COMMIT_SIZE):
            yield part
            part, size = [], 0
        part.append(message)
        size += len(message.content)
    if part:
        yield part


def say_how_far(error: BaseException, batch: Batch) -> None:
    """Of several commits some may be in the log when one fails: the error says so."""
    if len(batch.commits) > 1:
        done = sum(len(c.messages) for c in batch.commits if c.done.done() and c.done.exception() is None)
        error.add_note(f"{done:,} of {len(batch.messages):,} messages are in the log")


def timed_out(sent: Message, timeout: float) -> str:
    return (
        f"no response from {sent.to_agent} within {timeout:g} s; the request {sent.message_id} stays in the log and is "
        f"answered when its agent runs (`tailrace agents`): client.wait({sent.message_id!r}) takes it up again"
    )


def open_session(
    home: Path | str,
    user: str,
    environment: str,
    tables: str | None,
    bus: Bus | None,
    when_busy: WhenBusy,
    *,
    patience: float,
    advice: Advice | None,
    now_micros: Callable[[], int],
) -> Session:
    """What a client is given, opened. Raises LogMissing, MissingKey, Untrusted or ForeignLog."""
    opened = Opened(bus) if bus is not None else open_log(Home(Path(home), tables), user, environment)
    return Session(opened, Composer(user, now_micros), Pressure(advice or opened.advice, patience), when_busy)


@dataclass(frozen=True)
class Opened:
    """A bus, and what a client asks about it. A bus that somebody else opened vouches for itself."""

    bus: Bus
    accept: Accept = accept_all
    knows: Callable[[str], bool] = lambda _: True
    agents: Callable[[], list[str]] = list
    advice: Advice = field(default_factory=Nobody)

    @property
    def past(self) -> Past:
        table = getattr(self.bus, "table", None)
        if table is None:
            return MemoryPast(getattr(self.bus, "log"))  # noqa: B009  # the interface of a bus has neither
        return TablePast(table, lambda message_id: message_id in self.bus.state.seen, self.bus.state.partial)


def open_log(home: Home, user: str, environment: str) -> Opened:
    """The log under a home, for one user. Arrow and cryptography are loaded here, not when this module is imported."""
    from bus.audit import AuditChain
    from bus.flow import Flow
    from bus.keys import Signer
    from bus.log.bus import LogBus
    from bus.log.seal import SigningSeal
    from bus.log.table import DeltaLog
    from bus.trusted import TrustedNow

    table = DeltaLog(home.table(AGENT_MESSAGES.name), AGENT_MESSAGES)
    table_id = table.check()
    signer = Signer.load(home.keys, [USER + user], table_id, environment)
    trusted = TrustedNow(home.keys, table_id, environment)
    seal = SigningSeal(signer, AuditChain(f"client-{uuid.uuid4().hex[:8]}"))
    bus = LogBus(table, seal=seal, follow_only=True, accept=trusted.accepts)
    return Opened(bus, trusted.accepts, trusted.knows, trusted.agents, Flow(table.store))
