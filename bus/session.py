"""What both clients are made of: one user on one bus. Nothing here waits for the log, except where it says so."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Unpack

from bus.arrivals import Arrivals, is_response
from bus.base import Bus
from bus.batches import Batch, Bulk, Desk, batch_of
from bus.compose import Composer, Envelope, Item
from bus.errors import TimedOut
from bus.logs import LateLogger
from bus.past import Past, Position
from bus.pressure import Advice, Nobody, Pressure, WhenBusy
from bus.subscription import Subscription
from bus.watch import Accept, Watch, accept_all
from schemas.envelope import EVERYONE, Message
from schemas.payloads import Payload

log = LateLogger(__name__)

#: Behind every row of a commit.
END_OF_COMMIT = 1 << 62


@dataclass(frozen=True)
class Opened:
    """A bus, and what a client asks about it. A bus that somebody else opened vouches for itself.

    `remote`: looking something up is a request to another machine.
    """

    bus: Bus
    past: Past
    accept: Accept = accept_all
    knows: Callable[[str], bool] = lambda _: True
    agents: Callable[[], list[str]] = list
    advice: Advice = field(default_factory=Nobody)
    remote: bool = False


class Session:
    """Safe for several threads."""

    def __init__(self, opened: Opened, composer: Composer, pressure: Pressure, when_busy: WhenBusy) -> None:
        self.remote = opened.remote
        self.bus = opened.bus
        self.accept = opened.accept
        self.past = opened.past
        self._knows = opened.knows
        self._agents = opened.agents
        self._pressure = pressure
        self._when_busy = when_busy
        self._warned: set[str] = set()
        self._watch = Watch(self.bus, self.accept)
        self.desk = Desk(self.bus, self._watch, self.past, self.accept, composer)
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

    def message(
        self, to: str, payload: Payload, message_id: str | None, own_id: bool, **envelope: Unpack[Envelope]
    ) -> Batch:
        """One message. `own_id`: the id comes from the producer, who may have sent it before."""
        message = self.desk.composer.message(to, payload, message_id=message_id, **envelope)
        return Batch(self.desk, [message], own_id)

    def many(self, items: Sequence[Item]) -> Batch | Bulk:
        """What `send_many` was given. Raises NotAMessage or ContentTooLarge before anything is sent."""
        return batch_of(self.desk, items)

    def pauses(self, addressees: Sequence[str], when_busy: WhenBusy | None) -> Iterator[float]:
        """Seconds to sleep until everybody addressed has room."""
        for agent in addressees:
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
            self._watch.hear_all()
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


def say_how_far(error: BaseException, batch: Batch | Bulk) -> None:
    """Of several commits some may be in the log when one fails: the error says so."""
    if len(batch.commits) > 1:
        done = sum(1 for commit in batch.commits if commit.done() and commit.exception() is None)
        error.add_note(
            f"{done} of {len(batch.commits)} commits are in the log ({batch.size:,} messages were to be sent)"
        )


def timed_out(sent: Message, timeout: float) -> str:
    return (
        f"no response from {sent.to_agent} within {timeout:g} s; the request {sent.message_id} stays in the log and is "
        f"answered when its agent runs (`tailrace agents`): client.wait({sent.message_id!r}) takes it up again"
    )
