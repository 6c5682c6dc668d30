"""The client for event loops: the same bus and the same rules as the other one; only the waiting is done by the loop."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Unpack

from bus.base import Bus
from bus.batches import Batch, Bulk
from bus.compose import Envelope, Item, system_micros
from bus.errors import Closed, TimedOut
from bus.opening import Options, open_session
from bus.past import Position
from bus.pressure import Advice, WhenBusy
from bus.session import Session, say_how_far, timed_out
from bus.subscription import Subscription
from schemas.envelope import EVERYONE, Message
from schemas.payloads import Payload

if TYPE_CHECKING:
    from bus.redaction import Redactor


class AsyncTailraceClient:
    """Speaks for one user in one event loop: `async with AsyncTailraceClient(home, user="eli") as client`.

    Takes what TailraceClient takes. Cancelling a call stops the waiting, never the commit: what was handed over is written.
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
        redactor: Redactor | None = None,
    ) -> None:
        self.user = user
        options = Options(user, environment, tables, durability, when_busy, patience, advice, now_micros, redactor)
        self._open: Callable[[], Session] = lambda: open_session(home, bus, options)
        self._opened: Session | None = None

    @property
    def _session(self) -> Session:
        if self._opened is None:
            raise Closed("the client is not open: async with AsyncTailraceClient(...) as client")
        return self._opened

    async def __aenter__(self) -> AsyncTailraceClient:
        self._opened = await asyncio.to_thread(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Commit what was sent, then stop; whoever still waits hears Closed. Idempotent."""
        if self._opened is not None:
            await asyncio.shield(asyncio.to_thread(self._opened.close))

    # --- sending -----------------------------------------------------------------------------------------------------

    async def send(
        self,
        to: str,
        payload: Payload,
        *,
        message_id: str | None = None,
        when_busy: WhenBusy | None = None,
        **envelope: Unpack[Envelope],
    ) -> Message:
        """Append one request; returns it as it stands in the log. `envelope` and errors as of TailraceClient.send."""
        batch = self._session.message(to, payload, message_id, message_id is not None, **envelope)
        return (await self._post(batch, when_busy))[0]

    async def publish(
        self, payload: Payload, *, message_id: str | None = None, **envelope: Unpack[Envelope]
    ) -> Message:
        """Append an event, for whoever subscribes to its kind."""
        return await self.send(EVERYONE, payload, message_id=message_id, **envelope)

    async def send_many(self, items: Iterable[Item], *, when_busy: WhenBusy | None = None) -> Sequence[Message]:
        """Append many requests, up to 5,000 in one commit; see TailraceClient.send_many."""
        batch = await asyncio.to_thread(self._session.many, list(items))  # building many rows takes its time
        return await self._post(batch, when_busy)

    async def _post(self, batch: Batch | Bulk, when_busy: WhenBusy | None) -> Sequence[Message]:
        pauses = self._session.pauses(batch.addressees, when_busy)
        while (pause := await self._soon(next, pauses, None)) is not None:  # noqa: ASYNC110  # hosts on other machines ask
            await asyncio.sleep(pause)
        if batch.own_ids:
            await asyncio.to_thread(batch.recall)
        try:
            if isinstance(batch, Bulk):  # encodes and signs, which takes its time
                await asyncio.shield(asyncio.to_thread(batch.begin))
            else:
                batch.begin()
            for commit in batch.commits:
                await asyncio.wrap_future(commit)
        except BaseException as error:
            say_how_far(error, batch)
            raise
        finally:
            batch.collect()
        return await asyncio.to_thread(batch.settled) if batch.own_ids else batch.settled()

    async def _soon(self, step: Callable[..., Any], *what: Any) -> Any:
        """A look that is nothing on this machine, and a request elsewhere, which the loop must not wait for."""
        return await asyncio.to_thread(step, *what) if self._session.remote else step(*what)

    # --- answers -----------------------------------------------------------------------------------------------------

    async def request(
        self,
        to: str,
        payload: Payload,
        *,
        timeout: float = 60.0,  # noqa: ASYNC109  # the request stays in the log: the error says so
        message_id: str | None = None,
        when_busy: WhenBusy | None = None,
        **envelope: Unpack[Envelope],
    ) -> Message:
        """Send, and wait for the response. Raises TimedOut; the request stays in the log: `wait` takes it up again."""
        deadline = time.monotonic() + timeout
        own_id, message_id = message_id is not None, message_id or str(uuid.uuid4())
        with self._session.expecting(message_id) as answer:
            batch = self._session.message(to, payload, message_id, own_id, **envelope)
            (sent,) = await self._post(batch, when_busy)
            if own_id and (known := await asyncio.to_thread(self._session.answered, sent)) is not None:
                return known
            return await _in_time(answer, deadline, sent, timeout)

    async def wait(self, sent: Message | str, timeout: float = 60.0) -> Message:  # noqa: ASYNC109  # as of request
        """The response to a message sent earlier: the message, its id, or a conversation's id. Raises TimedOut."""
        deadline = time.monotonic() + timeout
        if isinstance(sent, str):
            sent = await asyncio.to_thread(self._session.find, sent, timeout)
        with self._session.expecting(sent.message_id) as answer:
            if (known := await asyncio.to_thread(self._session.answered, sent)) is not None:
                return known
            return await _in_time(answer, deadline, sent, timeout)

    # --- listening ---------------------------------------------------------------------------------------------------

    def subscribe(
        self,
        *kinds: type[Payload] | str,
        from_version: int | None = None,
        after: Message | Position | None = None,
    ) -> AsyncSubscription:
        """Events of these kinds, in log order, each once; listens from now on, whenever it is iterated."""
        return AsyncSubscription(self._session.subscribe(kinds, from_version, after))

    async def conversation(self, correlation_id: str) -> list[Message]:
        """Valid messages so far, in log order, without receipts."""
        return await asyncio.to_thread(self._session.conversation, correlation_id)


class AsyncSubscription(AsyncIterator[Message]):
    """`async for event in client.subscribe(KnowledgeAdded)`. An event that was taken is never lost to a cancellation."""

    def __init__(self, events: Subscription) -> None:
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._came = asyncio.Event()
        events.on_arrival = self._wake

    def _wake(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._came.set)

    def __aiter__(self) -> AsyncSubscription:
        return self

    async def __aenter__(self) -> AsyncSubscription:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __anext__(self) -> Message:
        try:
            return await self.next_event()
        except Closed:
            raise StopAsyncIteration from None

    async def next_event(self, timeout: float | None = None) -> Message:  # noqa: ASYNC109  # as of request
        """The next event. Raises TimedOut after `timeout` seconds, Closed, or why the log cannot be followed any more."""
        try:
            async with asyncio.timeout(timeout) as limit:
                while True:
                    self._came.clear()  # before the look: what comes behind it wakes
                    if (event := self._events.poll()) is not None:
                        return event
                    if self._events.is_behind:
                        await asyncio.to_thread(self._events.read_on)
                    else:
                        await self._came.wait()
        except TimeoutError:
            if not limit.expired():
                raise
            raise TimedOut(f"no {' or '.join(self._events.kinds)} within {timeout:g} s; it may still come") from None

    def close(self) -> None:
        """Idempotent."""
        self._events.close()


async def _in_time(answer: Future[Message], deadline: float, sent: Message, within: float) -> Message:
    try:
        async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
            return await asyncio.wrap_future(answer)
    except TimeoutError:
        raise TimedOut(timed_out(sent, within)) from None
