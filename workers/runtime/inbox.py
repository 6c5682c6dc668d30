"""An instance's waiting messages: most urgent first, one conversation strictly in log order, bounded."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque

from schemas.envelope import Message

#: Messages held; what overflows stays in the log and is fetched when there is room.
CAPACITY = 10_000


class Inbox:
    """A bounded cache of the open set, used from one event loop. A message is known until it is `done`."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._conversations: dict[str, deque[Message]] = {}
        self._ready: list[tuple[int, tuple[int, int], str]] = []
        self._busy: set[str] = set()
        self._known: set[str] = set()
        self._available = asyncio.Event()
        #: Something was turned away for lack of room.
        self.overflowed = False
        self._draining = False
        self._settled = asyncio.Event()
        self._settled.set()

    def __len__(self) -> int:
        return len(self._known)

    def put(self, message: Message) -> bool:
        """Never blocks. False: known already, or no room."""
        if message.message_id in self._known:
            return False
        # Once something was turned away, so is everything after it: a conversation's later message must not overtake it.
        if self.overflowed or len(self._known) >= self._capacity:
            self.overflowed = True
            return False
        self._known.add(message.message_id)
        waiting = self._conversations.setdefault(message.correlation_id, deque())
        waiting.append(message)
        if len(waiting) == 1 and message.correlation_id not in self._busy:
            self._offer(message.correlation_id)
        return True

    async def get(self) -> Message:
        """The most urgent message whose conversation is not being handled."""
        while self._draining or not self._ready:
            self._available.clear()
            await self._available.wait()
        _, _, conversation = heapq.heappop(self._ready)
        self._busy.add(conversation)
        self._settled.clear()
        return self._conversations[conversation].popleft()

    def done(self, message: Message) -> None:
        """Handled, or given up: the conversation's next message may come."""
        self._known.discard(message.message_id)
        self._busy.discard(message.correlation_id)
        if not self._busy:
            self._settled.set()
        if self._conversations.get(message.correlation_id):
            self._offer(message.correlation_id)
        else:
            self._conversations.pop(message.correlation_id, None)

    def drain(self) -> None:
        """Give out nothing more; what waits is in the log."""
        self._draining = True

    @property
    def has_room(self) -> bool:
        return len(self._known) <= self._capacity // 2

    async def settled(self) -> None:
        """Until everything that was taken is done."""
        await self._settled.wait()

    def _offer(self, conversation: str) -> None:
        head = self._conversations[conversation][0]
        heapq.heappush(self._ready, (-head.priority, head.position, conversation))
        self._available.set()
