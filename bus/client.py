"""The client other services use: send, request, wait. No JVM; it signs with the key of the user it acts for."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from bus.audit import AuditChain
from bus.base import Arrival, Bus
from bus.errors import TimedOut
from bus.home import Home
from bus.keys import Keyring, Signer
from bus.log.bus import Accept, LogBus, accept_all
from bus.log.seal import SigningSeal
from bus.log.table import DeltaLog
from schemas.envelope import USER, Message
from schemas.payloads import Payload
from schemas.tables import AGENT_MESSAGES


class TailraceClient:
    """Speaks for one user. Use it as a context manager; safe for several threads.

    `bus`: any bus; without it the log under `home` is opened, and every message is signed with the user's key.
    """

    def __init__(
        self,
        home: Path | str = ".tailrace",
        *,
        user: str,
        environment: str = "dev",
        bus: Bus | None = None,
        now_micros: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.user = user
        self._now = now_micros
        self._accept: Accept = accept_all
        if bus is None:
            bus, self._accept = _open(Home(Path(home)), user, environment)
        self._bus = bus

    def __enter__(self) -> TailraceClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._bus.close()

    def send(
        self,
        to: str,
        payload: Payload,
        *,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        priority: int = 5,
        **envelope: Any,
    ) -> Message:
        """Append one request; returns it once it is in the log. Raises ContentTooLarge, MissingKey or OSError."""
        message = Message(
            message_id=str(uuid.uuid4()),
            correlation_id=correlation_id or str(uuid.uuid4()),
            causation_id=causation_id,
            from_agent=USER + self.user,
            to_agent=to,
            message_type="request",
            kind=payload.kind(),
            content=payload.model_dump_json(),
            priority=priority,
            timestamp=self._now(),
            principal=self.user,
            **envelope,
        )
        self._bus.submit([message]).result()
        return message

    def request(self, to: str, payload: Payload, *, timeout: float = 60.0, **how: Any) -> Message:
        """Send, and wait for the response. Raises TimedOut; the request stays in the log and is answered later."""
        with self.listen() as arrivals:
            sent = self.send(to, payload, **how)
            return arrivals.response_to(sent.message_id, timeout)

    def wait(self, message: Message, timeout: float = 60.0) -> Message:
        """The response to a message sent earlier, perhaps by another client. Raises TimedOut."""
        with self.listen() as arrivals:
            for row in self._bus.conversation(message.correlation_id):
                if is_response(row, message.message_id) and self._accept(row):
                    return row
            return arrivals.response_to(message.message_id, timeout)

    def listen(self) -> Arrivals:
        """What is committed from now on; a context manager."""
        return Arrivals(self._bus, self._accept)

    def conversation(self, correlation_id: str) -> list[Message]:
        """Valid messages so far, in log order, without receipts."""
        return [row for row in self._bus.conversation(correlation_id) if self._accept(row)]


class Arrivals:
    """Rows as they come in, between `__enter__` and `__exit__`; only those whose signature holds are given out."""

    def __init__(self, bus: Bus, accept: Accept = accept_all) -> None:
        self._bus = bus
        self._accept = accept
        self._rows: list[Message] = []
        self._came = threading.Condition()

    def __enter__(self) -> Arrivals:
        self._leave = self._bus.subscribe(self._arrived)
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def _arrived(self, arrival: Arrival) -> None:
        with self._came:
            self._rows.extend(arrival.rows)
            self._came.notify_all()

    def next_of(self, correlation_id: str, timeout: float) -> list[Message]:
        """Rows of a conversation that came since the last call; empty after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._came:
            while True:
                found = [r for r in self._rows if r.correlation_id == correlation_id and self._accept(r)]
                self._rows.clear()
                left = deadline - time.monotonic()
                if found or left <= 0:
                    return found
                self._came.wait(left)

    def response_to(self, message_id: str, timeout: float) -> Message:
        deadline = time.monotonic() + timeout
        with self._came:
            while True:
                for row in self._rows:
                    if is_response(row, message_id) and self._accept(row):
                        return row
                self._rows.clear()
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimedOut(
                        f"no response within {timeout:g} s; the request {message_id} stays in the log and is answered "
                        "when its agent runs"
                    )
                self._came.wait(left)


def is_response(row: Message, message_id: str) -> bool:
    return row.message_type == "response" and row.causation_id == message_id


def _open(home: Home, user: str, environment: str) -> tuple[LogBus, Accept]:
    table = DeltaLog(home.table(AGENT_MESSAGES.name), AGENT_MESSAGES)
    table_id = table.check()
    signer = Signer.load(home.keys, [USER + user], table_id, environment)
    accept = partial(Keyring.load(home.keys).accepts, table_id=table_id, environment=environment)
    seal = SigningSeal(signer, AuditChain(f"client-{uuid.uuid4().hex[:8]}"))
    return LogBus(table, seal=seal, follow_only=True, accept=accept), accept
