"""The client other services use: send, request, wait, subscribe. No JVM; it signs with the key of the user it acts for."""

from __future__ import annotations

import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import structlog

from bus.arrivals import Arrivals, is_response
from bus.base import Bus
from bus.compose import Composer, Item
from bus.errors import IdTaken, TimedOut, Unexpected
from bus.home import Home
from bus.past import MemoryPast, Past, Position, TablePast
from bus.pressure import Advice, Nobody, Pressure, WhenBusy
from bus.subscription import Subscription
from bus.watch import Accept, Watch, accept_all
from schemas.envelope import EVERYONE, USER, Message
from schemas.payloads import Payload
from schemas.tables import AGENT_MESSAGES

__all__ = ["Arrivals", "Subscription", "TailraceClient", "is_response", "read"]

log = structlog.get_logger(__name__)

P = TypeVar("P", bound=Payload)

#: Messages, and bytes of content, that one commit of `send_many` carries at most.
COMMIT_ROWS = 5_000
COMMIT_BYTES = 32 << 20


class TailraceClient:
    """Speaks for one user. Use it as a context manager; safe for several threads.

    `bus`: any bus; without it the log under `home` is opened, and every message is signed with the user's key.
    `when_busy`: what sending does while an agent asks its producers to slow down: "wait" (at most `patience` seconds, then
    Busy), "raise" Busy at once, or "ignore".
    """

    def __init__(
        self,
        home: Path | str = ".tailrace",
        *,
        user: str,
        environment: str = "dev",
        bus: Bus | None = None,
        when_busy: WhenBusy = "wait",
        patience: float = 30.0,
        advice: Advice | None = None,
        now_micros: Callable[[], int] = lambda: time.time_ns() // 1000,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.user = user
        self.when_busy = when_busy
        self._sleep = sleep
        self._composer = Composer(user, now_micros)
        opened = _Opened(bus) if bus is not None else _open(Home(Path(home)), user, environment)
        self._bus = opened.bus
        self._accept = opened.accept
        self._knows = opened.knows
        self._agents = opened.agents
        self._warned: set[str] = set()
        self._past = opened.past
        self._pressure = Pressure(advice or opened.advice, patience)
        self._watch = Watch(self._bus, self._accept)
        self._subscriptions: weakref.WeakSet[Subscription] = weakref.WeakSet()
        self._bus.on_failure = self._failed
        self._closing = threading.Lock()

    def __enter__(self) -> TailraceClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Commit what was sent, then stop; whoever still waits hears Closed. Idempotent."""
        with self._closing:
            self._bus.close()
            self._watch.close()
            for subscription in list(self._subscriptions):
                subscription.close()

    # --- sending -----------------------------------------------------------------------------------------------------

    def send(
        self,
        to: str,
        payload: Payload,
        *,
        message_id: str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        priority: int = 5,
        not_before: datetime | int | None = None,
        expires_at: datetime | int | None = None,
        when_busy: WhenBusy | None = None,
        **envelope: Any,
    ) -> Message:
        """Append one request; returns it as it stands in the log, with its version.

        With a `message_id` of your own, sending again after an unknown outcome adds nothing and returns the original.
        Raises Busy, ContentTooLarge, IdTaken, Closed, or OSError.
        """
        message = self._composer.message(
            to,
            payload,
            message_id=message_id,
            correlation_id=correlation_id,
            causation_id=causation_id,
            priority=priority,
            not_before=not_before,
            expires_at=expires_at,
            **envelope,
        )
        self._make_room([message], when_busy)
        return self._post(Batch([message], own_ids=message_id is not None))[0]

    def publish(self, payload: Payload, **envelope: Any) -> Message:
        """Append an event, for whoever subscribes to its kind; `envelope` as for `send`."""
        return self.send(EVERYONE, payload, **envelope)

    def send_many(self, items: Iterable[Item], *, when_busy: WhenBusy | None = None) -> Sequence[Message]:
        """Append many requests: (agent, payload) pairs, or plain rows with the keys `to`, `kind`, `content`, ….

        Up to 5,000 (and 32 MiB) are one commit: all of them or none. More are several commits, in order. Rows that bring a
        `message_id` can be sent again, as with `send`. Raises what `send` raises, and ValueError for a row that is none;
        a row that cannot be sent is found before anything is.
        """
        items = list(items)
        messages = [self._composer.item(item) for item in items]
        own_ids = any(not isinstance(item, tuple) and item.get("message_id") for item in items)
        self._make_room(messages, when_busy)
        return self._post(Batch(messages, own_ids))

    def _make_room(self, messages: Sequence[Message], when_busy: WhenBusy | None) -> None:
        for pause in self._pauses(messages, when_busy):
            self._sleep(pause)

    def _pauses(self, messages: Sequence[Message], when_busy: WhenBusy | None) -> Iterator[float]:
        """Seconds to sleep until everybody addressed has room."""
        for agent in dict.fromkeys(message.to_agent for message in messages):
            if agent != EVERYONE:
                self._warn_of_unknown(agent)
                yield from self._pressure.pauses(agent, when_busy or self.when_busy)

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

    def _post(self, batch: Batch) -> list[Message]:
        """Append a batch and wait for it."""
        if batch.own_ids:
            self._recall(batch)
        self._begin(batch)
        try:
            for commit in batch.commits:
                commit.done.result()
        except BaseException as error:
            _say_how_far(error, batch)
            raise
        finally:
            missing = self._collect(batch)
        if missing:
            self._recall(batch)
        if batch.own_ids:  # another client may have been faster with the same id
            for message in batch.messages:
                self._same(message, batch.found[message.message_id])
        return batch.sent()

    def _recall(self, batch: Batch) -> None:
        """Which of these messages are in the log already. Raises IdTaken when an id names another message there."""
        open_ids = [message.message_id for message in batch.messages if message.message_id not in batch.found]
        batch.found |= self._past.by_id(open_ids)
        for message in batch.messages:
            if (original := batch.found.get(message.message_id)) is not None:
                self._same(message, original)

    def _same(self, message: Message, original: Message) -> None:
        if (message.timestamp, message.content) == (original.timestamp, original.content):
            return  # this very row, or nobody could tell
        fields = ("from_agent", "to_agent", "kind")
        differs = next((name for name in fields if getattr(message, name) != getattr(original, name)), None)
        if differs is None and not self._accept(original):
            differs = "signature"
        if differs is not None:
            raise IdTaken(
                f"the id {message.message_id} names another message since version {original.log_version} (its {differs} "
                "differs); nothing was sent under it: choose an id that names one message only"
            )
        if message.content != original.content:
            log.warning("client.original_differs", message_id=message.message_id, version=original.log_version)

    def _begin(self, batch: Batch) -> None:
        """Hand what is not in the log yet to the bus, commit by commit; does not wait."""
        fresh = [message for message in batch.messages if message.message_id not in batch.found]
        self._watch.track(message.message_id for message in fresh)
        for part in _parts(fresh):
            batch.commits.append(Commit(part, self._bus.submit(part)))

    def _collect(self, batch: Batch) -> bool:
        """Take up what counts of what was committed; True when something counts that came from elsewhere before."""
        missing = False
        for commit in batch.commits:
            rows = self._watch.collect(message.message_id for message in commit.messages)
            for message, row in zip(commit.messages, rows, strict=True):
                if row is not None:
                    batch.found[message.message_id] = row
                elif commit.done.done() and commit.done.exception() is None:
                    missing = True
        return missing

    # --- answers -----------------------------------------------------------------------------------------------------

    def request(self, to: str, payload: Payload, *, timeout: float = 60.0, **how: Any) -> Message:
        """Send, and wait for the response. Raises TimedOut; the request stays in the log: `wait` takes it up again."""
        deadline = time.monotonic() + timeout
        message_id = how.pop("message_id", None)
        own_id = message_id is not None
        how["message_id"] = message_id = message_id or str(uuid.uuid4())
        with self._expecting(message_id) as answer:
            sent = self.send(to, payload, **how) if own_id else self._send_fresh(to, payload, **how)
            if own_id and (known := self._answered(sent)) is not None:
                return known
            return _in_time(answer, deadline - time.monotonic(), sent, timeout)

    def _send_fresh(self, to: str, payload: Payload, when_busy: WhenBusy | None = None, **how: Any) -> Message:
        """With an id made here, which nobody can have used."""
        message = self._composer.message(to, payload, **how)
        self._make_room([message], when_busy)
        return self._post(Batch([message], own_ids=False))[0]

    def wait(self, sent: Message | str, timeout: float = 60.0) -> Message:
        """The response to a message sent earlier, perhaps by another process: the message, its id, or a conversation's id.

        Of a conversation it is the response to the message that began it. Raises TimedOut.
        """
        deadline = time.monotonic() + timeout
        if isinstance(sent, str):
            sent = self._find(sent, timeout)
        with self._expecting(sent.message_id) as answer:
            if (known := self._answered(sent)) is not None:
                return known
            return _in_time(answer, deadline - time.monotonic(), sent, timeout)

    def _find(self, some_id: str, timeout: float) -> Message:
        """The message with this id, or the first of the conversation with this id, now or as soon as it comes."""
        with self.listen() as arrivals:
            if begun := self.conversation(some_id):
                return begun[0]
            if (found := self._past.by_id([some_id]).get(some_id)) is not None and self._accept(found):
                return found
            row = arrivals.first(lambda row: some_id in (row.message_id, row.correlation_id), timeout)
            if row is None:
                raise TimedOut(
                    f"neither a message nor a conversation {some_id} is in the log; none came within {timeout:g} s"
                )
            return row

    def _answered(self, sent: Message) -> Message | None:
        """The response, if it is in the log already."""
        rows = self.conversation(sent.correlation_id)
        return next((row for row in rows if is_response(row, sent.message_id)), None)

    @contextmanager
    def _expecting(self, message_id: str) -> Iterator[Future[Message]]:
        answer = self._watch.expect(message_id)
        try:
            yield answer
        finally:
            self._watch.forget(message_id, answer)

    # --- listening ---------------------------------------------------------------------------------------------------

    def subscribe(
        self,
        *kinds: type[Payload] | str,
        from_version: int | None = None,
        after: Message | Position | None = None,
    ) -> Subscription:
        """Events of these kinds, in log order, each once: from now on, from a version on, or behind an event.

        A service that must miss nothing keeps the `position` of the last event it is done with, and begins `after` it.
        """
        if not kinds:
            raise ValueError("subscribe to at least one kind: client.subscribe(KnowledgeAdded)")
        names = [kind if isinstance(kind, str) else kind.kind() for kind in kinds]
        if from_version is not None:
            after = (from_version - 1, END_OF_COMMIT)
        elif isinstance(after, Message):
            after = after.position
        subscription = Subscription(self._bus, self._past, names, self._accept, after)
        self._subscriptions.add(subscription)
        return subscription

    def listen(self) -> Arrivals:
        """What is committed from now on; a context manager."""
        return Arrivals(self._bus, self._accept)

    def conversation(self, correlation_id: str) -> list[Message]:
        """Valid messages so far, in log order, without receipts."""
        return [row for row in self._bus.conversation(correlation_id) if self._accept(row)]

    def _failed(self, error: BaseException) -> None:
        """The bus cannot follow the log any more: whoever waits hears why."""
        self._watch.fail(error)
        for subscription in list(self._subscriptions):
            subscription.fail(error)


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

    def sent(self) -> list[Message]:
        return [self.found[message.message_id] for message in self.messages]


def read(message: Message, model: type[P]) -> P:
    """The payload of a message, validated. Raises Unexpected when the message is of another kind, with what it says."""
    if message.kind != model.kind():
        raise Unexpected(
            f"{message.from_agent} sent {message.kind}, not {model.kind()}: {message.content[:500]}", message
        )
    return model.model_validate_json(message.content)


def _parts(messages: Sequence[Message]) -> Iterator[list[Message]]:
    part: list[Message] = []
    size = 0
    for message in messages:
        if part and (len(part) >= COMMIT_ROWS or size + len(message.content) > COMMIT_BYTES):
            yield part
            part, size = [], 0
        part.append(message)
        size += len(message.content)
    if part:
        yield part


def _say_how_far(error: BaseException, batch: Batch) -> None:
    """Of several commits some may be in the log when one fails: the error says so."""
    if len(batch.commits) > 1:
        done = sum(len(c.messages) for c in batch.commits if c.done.done() and c.done.exception() is None)
        error.add_note(f"{done:,} of {len(batch.messages):,} messages are in the log")


def _in_time(answer: Future[Message], left: float, sent: Message, timeout: float) -> Message:
    try:
        return answer.result(max(left, 0))
    except TimeoutError:
        raise TimedOut(timed_out(sent, timeout)) from None


def timed_out(sent: Message, timeout: float) -> str:
    return (
        f"no response from {sent.to_agent} within {timeout:g} s; the request {sent.message_id} stays in the log and is "
        f"answered when its agent runs (`tailrace agents`): client.wait({sent.message_id!r}) takes it up again"
    )


@dataclass(frozen=True)
class _Opened:
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


def _open(home: Home, user: str, environment: str) -> _Opened:
    """The log under a home, for one user. Arrow and cryptography are loaded here, not when this module is imported."""
    from bus.audit import AuditChain
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
    return _Opened(bus, trusted.accepts, trusted.knows, trusted.agents)
