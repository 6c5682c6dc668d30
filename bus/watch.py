"""What a client watches for in the log: what became of its own messages, and the responses somebody waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass

from bus.base import Arrival, Bus
from bus.errors import Closed
from schemas.envelope import Message

#: Whether a row's signature holds.
Accept = Callable[[Message], bool]


def accept_all(_: Message) -> bool:
    """For buses without signatures."""
    return True


@dataclass
class _Slot:
    """The row that counts under a message id, once there is one, and how many senders of this client ask for it."""

    row: Message | None = None
    senders: int = 1


class Watch:
    """One listener for all of a client's threads and tasks: a row costs two look-ups, however many wait.

    Until something is expected it hears its own bus's commits alone: who only sends does not read what others commit.
    """

    def __init__(self, bus: Bus, accept: Accept) -> None:
        self._bus = bus
        self._accept = accept
        self._lock = threading.Lock()
        self._sent: dict[str, _Slot] = {}
        self._expected: dict[str, list[Future[Message]]] = {}
        self._failure: BaseException | None = None
        self._leave: Callable[[], None] | None = None
        if (subscribe_own := getattr(bus, "subscribe_own", None)) is not None:
            subscribe_own(self._arrived)
        else:
            self.hear_all()

    def hear_all(self) -> None:
        """From here on every commit: also whoever else writes is known to the bus's state."""
        with self._lock:
            if self._leave is None:
                self._leave = self._bus.subscribe(self._arrived)

    def _arrived(self, arrival: Arrival) -> None:
        if not self._sent and not self._expected:
            return
        for row in arrival.rows:
            slot = self._sent.get(row.message_id)
            if slot is not None and slot.row is None:
                slot.row = row  # the bus gives out valid rows only: the first one with an id, whoever wrote it
            if row.message_type == "response" and row.causation_id in self._expected and self._accept(row):
                self._answer(row.causation_id, row)

    # --- own messages ------------------------------------------------------------------------------------------------

    def track(self, message_ids: Iterable[str]) -> None:
        """Remember the row that comes to count under each of these ids, until `collect`."""
        with self._lock:
            for message_id in message_ids:
                slot = self._sent.get(message_id)
                if slot is None:
                    self._sent[message_id] = _Slot()
                else:
                    slot.senders += 1

    def collect(self, message_ids: Iterable[str]) -> list[Message | None]:
        """The rows that count, in the order of the ids; None where none has come since `track`."""
        found: list[Message | None] = []
        with self._lock:
            for message_id in message_ids:
                slot = self._sent[message_id]
                found.append(slot.row)
                slot.senders -= 1
                if not slot.senders:
                    del self._sent[message_id]
        return found

    # --- responses ---------------------------------------------------------------------------------------------------

    def expect(self, message_id: str) -> Future[Message]:
        """The response to this message, once it comes. Call `forget` when nobody waits any more."""
        self.hear_all()
        answer: Future[Message] = Future()
        with self._lock:
            if self._failure is not None:
                answer.set_exception(self._failure)
            else:
                self._expected.setdefault(message_id, []).append(answer)
        return answer

    def forget(self, message_id: str, answer: Future[Message]) -> None:
        with self._lock:
            waiting = self._expected.get(message_id, [])
            if answer in waiting:
                waiting.remove(answer)
            if not waiting:
                self._expected.pop(message_id, None)

    def _answer(self, message_id: str, row: Message) -> None:
        with self._lock:
            waiting = self._expected.pop(message_id, [])
        for answer in waiting:
            if answer.set_running_or_notify_cancel():
                answer.set_result(row)

    # --- the end -----------------------------------------------------------------------------------------------------

    def fail(self, error: BaseException) -> None:
        """Nothing more will come: whoever waits hears why."""
        with self._lock:
            self._failure = error
            waiting = [answer for answers in self._expected.values() for answer in answers]
            self._expected.clear()
        for answer in waiting:
            if answer.set_running_or_notify_cancel():
                answer.set_exception(error)

    def close(self) -> None:
        if self._leave is not None:
            self._leave()
        self.fail(Closed("the client was closed while a response was awaited; wait for it with another client"))
