"""What conversations said, as far as memory goes: whole ones only, those that are still open first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from bus.ids import IdSet
from schemas.envelope import Message

#: Conversations kept although nothing in them is open; older ones are read from the table again.
CLOSED_KEPT = 10_000


class Conversations:
    """A conversation is kept whole, or not at all: who decides by it must not see only its end.

    `begun` knows the ids of conversations that ever were, so that a new one is known to be new.
    """

    def __init__(self, limit: int) -> None:
        self.begun = IdSet(limit)
        self._rows: dict[str, list[Message]] = {}
        #: Conversation -> how many of its messages wait.
        self._open: dict[str, int] = {}
        self._closed: OrderedDict[str, None] = OrderedDict()
        #: Forgotten ones that are being read again: from which version on, and what has come since.
        self._expected: dict[str, tuple[int, list[Message]]] = {}

    def add(self, row: Message, waits: bool = False) -> None:
        """`waits`: it is about to be opened."""
        conversation = row.correlation_id
        rows = self._rows.get(conversation)
        if rows is not None:
            rows.append(row)
        elif self.begun.add(conversation):
            self._rows[conversation] = [row]
        else:
            if conversation in self._expected:
                self._expected[conversation][1].append(row)
            return  # its beginning was forgotten
        if not waits:
            self._touch(conversation)

    def opened(self, correlation_id: str) -> None:
        """A message of it waits."""
        self._open[correlation_id] = self._open.get(correlation_id, 0) + 1
        self._closed.pop(correlation_id, None)

    def settled(self, correlation_id: str) -> None:
        """A message of it got its receipt."""
        left = self._open.get(correlation_id, 0) - 1
        if left > 0:
            self._open[correlation_id] = left
            return
        self._open.pop(correlation_id, None)
        if correlation_id in self._rows:
            self._touch(correlation_id)

    def _touch(self, correlation_id: str) -> None:
        if self._open.get(correlation_id):
            return
        if correlation_id in self._closed:
            self._closed.move_to_end(correlation_id)
            return
        self._closed[correlation_id] = None
        while len(self._closed) > CLOSED_KEPT:
            del self._rows[self._closed.popitem(last=False)[0]]

    def get(self, correlation_id: str) -> list[Message] | None:
        """All of it in log order, [] for one that never was, None for one that was forgotten."""
        rows = self._rows.get(correlation_id)
        if rows is not None:
            return list(rows)
        return None if correlation_id in self.begun else []

    def expect(self, correlation_id: str, version: int) -> None:
        """A forgotten one is about to be read from the table; what comes after `version`, the newest absorbed, is kept."""
        self._expected.setdefault(correlation_id, (version, []))

    def recall(self, correlation_id: str, rows: Sequence[Message]) -> None:
        """A forgotten one that was read again; without `expect`, as of now."""
        version, later = self._expected.pop(correlation_id, (None, []))
        if correlation_id in self._rows:
            return
        self._rows[correlation_id] = [row for row in rows if version is None or row.log_version <= version] + later
        self.begun.add(correlation_id)
        self._touch(correlation_id)

    def open_ones(self) -> Iterable[str]:
        return list(self._open)
