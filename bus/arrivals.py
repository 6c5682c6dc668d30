"""Rows as they come in, for whoever follows a conversation rather than one response."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from bus.base import Arrival, Bus
from bus.errors import TimedOut
from bus.watch import Accept, accept_all
from schemas.envelope import Message


class Arrivals:
    """Rows committed between `__enter__` and `__exit__`; only those whose signature holds are given out."""

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

    def first(self, wanted: Callable[[Message], bool], timeout: float) -> Message | None:
        """The first row that is wanted, of those that came since the last call; None after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._came:
            while True:
                found = next((row for row in self._rows if wanted(row) and self._accept(row)), None)
                self._rows.clear()
                left = deadline - time.monotonic()
                if found is not None or left <= 0:
                    return found
                self._came.wait(left)

    def response_to(self, message_id: str, timeout: float) -> Message:
        """Raises TimedOut."""
        row = self.first(lambda row: is_response(row, message_id), timeout)
        if row is None:
            raise TimedOut(
                f"no response within {timeout:g} s; the request {message_id} stays in the log and is answered "
                "when its agent runs"
            )
        return row


def is_response(row: Message, message_id: str) -> bool:
    return row.message_type == "response" and row.causation_id == message_id
