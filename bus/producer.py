"""What a service needs that only sends: messages go in, and the call returns when they are safe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bus.base import Bus
from bus.errors import NotAMessage
from bus.fold import is_binding
from schemas.envelope import Message

#: Messages that are submitted together.
TOGETHER = 5_000


class Producer(Protocol):
    """A way into the log. It reads nothing back: answers are awaited by a client.

    Whoever was not told that a message is safe sends it again under the same `message_id`; the log counts an id once.
    """

    def send_many(self, messages: Sequence[Message]) -> None:
        """Returns when all of them are safe. Raises NotAcknowledged, or what says that none can be."""
        ...

    def close(self) -> None: ...


class BusProducer:
    """Into the log itself: what was sent is in the table when the call returns."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def send_many(self, messages: Sequence[Message]) -> None:
        check_sendable(messages)
        under_way = [
            self._bus.submit(messages[start : start + TOGETHER]) for start in range(0, len(messages), TOGETHER)
        ]
        for one in under_way:
            one.result()

    def close(self) -> None:
        self._bus.close()


def check_sendable(messages: Sequence[Message]) -> None:
    """Receipts, claims and leases are decided by a bus that has read the log; a producer has not. Raises NotAMessage."""
    for message in messages:
        if is_binding(message):
            raise NotAMessage(
                f"a producer sends requests and events; {message.kind} decides something, which takes a bus"
            )
