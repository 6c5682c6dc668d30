"""DelegationLog: the delegations that the log holds, read once and followed from there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from bus.base import Arrival, Bus
from schemas.envelope import Message
from schemas.payloads import DelegationChanged
from workers.governance.delegations import Delegation, Position, delegations

#: Events of these kinds behind a place, chunk by chunk, as far as the log reaches now; see `bus.past`.
Events = Callable[[Sequence[str], Position], Iterator[list[Message]]]


class DelegationLog:
    """Reads the past when it is first asked, so that a start does not wait for it; a long log takes a second.

    As a host's companion it hears what comes; else it reads on when it is behind.

    `accept`: whether a row's signature holds. What nobody signed lends nothing.
    """

    def __init__(self, events: Events, accept: Callable[[Message], bool] = lambda _: True) -> None:
        self._events = events
        self._accept = accept
        self._lock = threading.Lock()
        self._rows: dict[str, Message] = {}
        #: How far the past was read.
        self._upto: Position = (-1, -1)
        self._leave: Callable[[], None] | None = None
        self._bus: Bus | None = None

    def follow(self, bus: Bus) -> DelegationLog:
        """To be a companion of the host that has this bus."""
        self._bus = bus
        return self

    def start(self) -> None:
        assert self._bus is not None
        self._leave = self._bus.subscribe(self._heard)

    def stop(self) -> None:
        if self._leave is not None:
            self._leave()
            self._leave = None

    def as_of(self, position: Position) -> Sequence[Delegation]:
        if self._upto < (position if self._leave is None else (0, 0)):
            self._read(position)
        with self._lock:
            rows = sorted(self._rows.values(), key=lambda row: row.position)
        return delegations(row for row in rows if row.position < position)

    def _read(self, position: Position) -> None:
        """All that the log holds now, which is at least up to there."""
        for rows in self._events([DelegationChanged.kind()], self._upto):
            self._add(rows)
        self._upto = max(self._upto, position)

    def _heard(self, arrival: Arrival) -> None:
        """From the bus's thread, before the rows are delivered to anybody."""
        self._add([row for row in arrival.rows if row.kind == DelegationChanged.kind()])

    def _add(self, rows: Sequence[Message]) -> None:
        accepted = [row for row in rows if self._accept(row)]
        with self._lock:
            for row in accepted:
                self._rows.setdefault(row.message_id, row)
