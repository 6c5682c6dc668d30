"""What a bus is and what a feed is: the two interfaces that every implementation passes the same contract suite on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from bus.errors import ContentTooLarge
from bus.fold import State
from bus.logs import LateLogger
from schemas.envelope import MAX_CONTENT, Message

log = LateLogger(__name__)


@dataclass(frozen=True)
class Arrival:
    """Rows of one commit as they come in: valid ones, in order. `own`: this bus committed them itself."""

    version: int
    rows: tuple[Message, ...]
    own: bool


Listener = Callable[[Arrival], None]


def enlist(listeners: list[Listener], listener: Listener, lock: AbstractContextManager[object]) -> Callable[[], None]:
    """Add a listener under the lock of its bus; returns the way out, which may be taken twice."""
    with lock:
        listeners.append(listener)

    def leave() -> None:
        with lock:
            if listener in listeners:
                listeners.remove(listener)

    return leave


def too_large(messages: Sequence[Message]) -> ContentTooLarge | None:
    """What to say to whoever submits these; None when every content fits."""
    for message in messages:
        # A character has four bytes at most: short contents, which nearly all are, need no look at their bytes.
        if len(message.content) > MAX_CONTENT // 4 and len(message.content.encode()) > MAX_CONTENT:
            return ContentTooLarge(
                f"{message.kind} holds {len(message.content)} characters; the limit is {MAX_CONTENT} bytes"
            )
    return None


def tell(listeners: Sequence[Listener], arrival: Arrival) -> None:
    """Every listener, in turn. One that raises is logged: the commit is in the log whatever it thinks of it."""
    for listener in list(listeners):
        try:
            listener(arrival)
        except Exception:
            log.exception("bus.listener_failed", version=arrival.version)


class Bus(Protocol):
    """A log of messages. Safe for several threads. `state` is the fold of everything absorbed so far.

    `on_failure` is called once, from the bus's thread, when the log cannot be followed any more.
    """

    state: State
    on_failure: Callable[[BaseException], None]

    def submit(self, messages: Sequence[Message]) -> Future[int]:
        """Commit all of it in one commit, or nothing; the result is the version.

        The future raises Superseded when a receipt or claim among them was decided already, ContentTooLarge, or Closed.
        """
        ...

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` for every later commit, in log order, from the bus's own thread; returns the way out."""
        ...

    def conversation(self, correlation_id: str) -> list[Message]:
        """Valid messages of a conversation, in log order, without receipts."""
        ...

    def catch_up(self) -> int:
        """Absorb whatever is in the log now; returns the version reached."""
        ...

    def close(self) -> None:
        """Commit what was submitted, then stop. Idempotent."""
        ...


Deliver = Callable[[Sequence[Message]], None]


class Feed(Protocol):
    """What brings new rows to a host. May deliver a message twice, never not at all; order within a delivery is log order."""

    @property
    def position(self) -> int:
        """Version up to which it needs nothing of the log any more."""
        ...

    def start(self, agents: Sequence[str], deliver: Deliver) -> None:
        """Hand over what is open for `agents`, then whatever comes. `deliver` is called from the feed's thread."""
        ...

    def stop(self) -> None:
        """Deliver nothing more. Idempotent."""
        ...
