"""Whose turn it is among conversations that wait: the urgent before the less urgent, principals in turn, nobody never."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable

from schemas.envelope import Message

#: Seconds of waiting that count as much as one step of priority.
AGEING_S = 2.0

#: Seconds that only ever grow.
Monotonic = Callable[[], float]


class Turns:
    """A line for each principal and priority, by place in the log; the line whose head is most urgent is next.

    Urgency is the priority plus what the line has waited since its last turn, so that a line that is passed over becomes
    the most urgent in the end: of P lines, one of priority p waits at most (10 - p) * ageing_s and P turns for each of its
    conversations. Of equal priority the line that waits longest is next, which is taking turns: whoever puts thousands
    into one line delays another's by one turn. Urgencies of two lines keep their order as time passes, so each line has
    one key for as long as it waits, and everything is O(log n).
    """

    def __init__(self, now: Monotonic = time.monotonic, ageing_s: float = AGEING_S) -> None:
        self._now = now
        self._ageing = ageing_s
        self._lines: dict[tuple[str, int], list[tuple[tuple[int, int], str]]] = {}
        # (when it began to wait, less what its priority is worth; the order of coming; the line)
        self._order: list[tuple[float, int, tuple[str, int]]] = []
        self._came = 0

    def __bool__(self) -> bool:
        return bool(self._order)

    def push(self, head: Message) -> None:
        """A conversation that could be handled, by its oldest message."""
        who = (head.principal or head.from_agent, head.priority)
        line = self._lines.get(who)
        if line is not None:
            heapq.heappush(line, (head.position, head.correlation_id))
            return
        self._lines[who] = [(head.position, head.correlation_id)]
        heapq.heappush(self._order, self._key(who))

    def pop(self) -> str:
        """The conversation whose turn it is."""
        who = self._order[0][2]
        line = self._lines[who]
        _, conversation = heapq.heappop(line)
        if line:
            heapq.heapreplace(self._order, self._key(who))
        else:
            heapq.heappop(self._order)
            del self._lines[who]
        return conversation

    def _key(self, who: tuple[str, int]) -> tuple[float, int, tuple[str, int]]:
        self._came += 1
        return self._now() - who[1] * self._ageing, self._came, who
