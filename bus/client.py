"""The client other services use: send, request, wait, subscribe. No JVM; it signs with the key of the user it acts for."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar, Unpack

from bus.arrivals import Arrivals, is_response
from bus.base import Bus
from bus.batches import Batch, Bulk
from bus.compose import Envelope, Item, system_micros
from bus.errors import TimedOut, Unexpected
from bus.opening import Options, open_session
from bus.past import Position
from bus.pressure import Advice, WhenBusy
from bus.session import say_how_far, timed_out
from bus.subscription import Subscription
from schemas.envelope import EVERYONE, Message
from schemas.payloads import Payload

if TYPE_CHECKING:
    from bus.redaction import Redactor

__all__ = ["Arrivals", "Subscription", "TailraceClient", "is_response", "read"]

P = TypeVar("P", bound=Payload)


class TailraceClient:
    """Speaks for one user. Use it as a context manager; safe for several threads.

    `home` holds the keys, and the tables unless `tables` (or what `tailrace init` noted) is the URL of an object store.
    `durability="disk"`: what is sent survives the loss of power before it is acknowledged. `bus`: any bus; without it the
    log is opened, and every message is signed with the user's key. `when_busy`: what sending does while an agent asks its
    producers to slow down: "wait" (at most `patience` seconds, then Busy), "raise" Busy at once, or "ignore". `redactor`: what is
    masked before it is sent and signed; passwords, keys and tokens unless told otherwise.
    """

    def __init__(
        self,
        home: Path | str = ".tailrace",
        *,
        user: str,
        environment: str = "dev",
        tables: str | None = None,
        durability: Literal["os", "disk"] = "os",
        bus: Bus | None = None,
        when_busy: WhenBusy = "wait",
        patience: float = 30.0,
        advice: Advice | None = None,
        now_micros: Callable[[], int] = system_micros,
        sleep: Callable[[float], None] = time.sleep,
        redactor: Redactor | None = None,
    ) -> None:
        self.user = user
        self._sleep = sleep
        options = Options(user, environment, tables, durability, when_busy, patience, advice, now_micros, redactor)
        self._session = open_session(home, bus, options)

    def __enter__(self) -> TailraceClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Commit what was sent, then stop; whoever still waits hears Closed. Idempotent."""
        self._session.close()

    # --- sending -----------------------------------------------------------------------------------------------------

    def send(
        self,
        to: str,
        payload: Payload,
        *,
        message_id: str | None = None,
        when_busy: WhenBusy | None = None,
        **envelope: Unpack[Envelope],
    ) -> Message:
        """Append one request; returns it as it stands in the log, with its version.

        With a `message_id` of your own, sending again after an unknown outcome adds nothing and returns the original.
        `envelope`: correlation_id, causation_id, priority, not_before, expires_at, traceparent. Raises Busy, NotAMessage,
        ContentTooLarge, IdTaken, Closed, or OSError.
        """
        batch = self._session.message(to, payload, message_id, message_id is not None, **envelope)
        return self._post(batch, when_busy)[0]

    def publish(self, payload: Payload, *, message_id: str | None = None, **envelope: Unpack[Envelope]) -> Message:
        """Append an event, for whoever subscribes to its kind; the rest as for `send`."""
        return self.send(EVERYONE, payload, message_id=message_id, **envelope)

    def send_many(self, items: Iterable[Item], *, when_busy: WhenBusy | None = None) -> Sequence[Message]:
        """Append many requests: (agent, payload) pairs, or plain rows with the keys `to`, `kind`, `content`, ….

        Up to 5,000 (and 32 MiB) are one commit: all of them or none. More are several commits, in order. Rows that bring a
        `message_id` can be sent again, as with `send`. Raises what `send` raises, and NotAMessage for a row that is none;
        a row that cannot be sent is found before anything is. Rows that all have the same keys, with `to`, `kind`, `content`
        and at most ids and `priority`, are written as columns under one signature a commit: that is the fast way.
        """
        return self._post(self._session.many(list(items)), when_busy)

    def _post(self, batch: Batch | Bulk, when_busy: WhenBusy | None) -> Sequence[Message]:
        """Append a batch, and wait until it is in the log."""
        for pause in self._session.pauses(batch.addressees, when_busy):
            self._sleep(pause)
        if batch.own_ids:
            batch.recall()
        try:
            batch.begin(here=True)
            for commit in batch.commits:
                commit.result()
        except BaseException as error:
            say_how_far(error, batch)
            raise
        finally:
            batch.collect()
        return batch.settled()

    # --- answers -----------------------------------------------------------------------------------------------------

    def request(
        self,
        to: str,
        payload: Payload,
        *,
        timeout: float = 60.0,
        message_id: str | None = None,
        when_busy: WhenBusy | None = None,
        **envelope: Unpack[Envelope],
    ) -> Message:
        """Send, and wait for the response. Raises TimedOut; the request stays in the log: `wait` takes it up again."""
        deadline = time.monotonic() + timeout
        own_id, message_id = message_id is not None, message_id or str(uuid.uuid4())
        with self._session.expecting(message_id) as answer:
            (sent,) = self._post(self._session.message(to, payload, message_id, own_id, **envelope), when_busy)
            if own_id and (known := self._session.answered(sent)) is not None:
                return known
            return _in_time(answer, deadline, sent, timeout)

    def wait(self, sent: Message | str, timeout: float = 60.0) -> Message:
        """The response to a message sent earlier, perhaps by another process: the message, its id, or a conversation's id.

        Of a conversation it is the response to the message that began it. Raises TimedOut.
        """
        deadline = time.monotonic() + timeout
        if isinstance(sent, str):
            sent = self._session.find(sent, timeout)
        with self._session.expecting(sent.message_id) as answer:
            if (known := self._session.answered(sent)) is not None:
                return known
            return _in_time(answer, deadline, sent, timeout)

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
        return self._session.subscribe(kinds, from_version, after)

    def listen(self) -> Arrivals:
        """What is committed from now on; a context manager."""
        return self._session.listen()

    def conversation(self, correlation_id: str) -> list[Message]:
        """Valid messages so far, in log order, without receipts."""
        return self._session.conversation(correlation_id)


def read(message: Message, model: type[P]) -> P:
    """The payload of a message, validated. Raises Unexpected when the message is of another kind, with what it says."""
    if message.kind != model.kind():
        raise Unexpected(
            f"{message.from_agent} sent {message.kind}, not {model.kind()}: {message.content[:500]}", message
        )
    return model.model_validate_json(message.content)


def _in_time(answer: Future[Message], deadline: float, sent: Message, timeout: float) -> Message:
    try:
        return answer.result(max(deadline - time.monotonic(), 0))
    except TimeoutError:
        raise TimedOut(timed_out(sent, timeout)) from None
