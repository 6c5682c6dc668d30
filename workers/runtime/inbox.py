"""An instance's waiting messages: bounded, one conversation strictly in log order, turns between all others."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Set

from schemas.envelope import Message
from workers.runtime.turns import AGEING_S, Monotonic, Turns

#: Messages that are looked at for the next turn.
CAPACITY = 10_000


class Inbox:
    """A cache of the open set, used from one event loop. A message is known until it is `done` or dropped.

    `capacity` messages wait for their turn. What comes beyond stays where it is, in the open set: the inbox notes only
    that it is there, and takes it in as room comes, again in turns, so that a flood keeps nobody else out.
    """

    def __init__(self, capacity: int = CAPACITY, now: Monotonic = time.monotonic, ageing_s: float = AGEING_S) -> None:
        self._capacity = capacity
        self._held = 0
        self._conversations: dict[str, deque[Message]] = {}
        self._ready = Turns(now, ageing_s)
        self._beyond: dict[str, deque[Message]] = {}
        self._next_in = Turns(now, ageing_s)
        self._busy: dict[str, Message] = {}
        self._known: set[str] = set()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._draining = False
        self._settled = asyncio.Event()
        self._settled.set()

    def __len__(self) -> int:
        return len(self._known)

    @property
    def busy(self) -> Set[str]:
        """Conversations under way."""
        return self._busy.keys()

    @property
    def waiting(self) -> Set[str]:
        """Conversations of which something waits."""
        return self._conversations.keys() | self._beyond.keys()

    def put(self, message: Message) -> bool:
        """Never blocks. False: known already."""
        if message.message_id in self._known:
            return False
        self._known.add(message.message_id)
        conversation = message.correlation_id
        if (beyond := self._beyond.get(conversation)) is not None:  # it must not overtake its own conversation
            beyond.append(message)
        elif self._held >= self._capacity:
            self._beyond[conversation] = deque((message,))
            self._next_in.push(message)
        else:
            self._take_in(message)
        return True

    async def get(self) -> Message:
        """The message whose turn it is, among conversations that are not being handled."""
        while (message := self._next()) is None:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake()  # what it was woken for is somebody else's now
                raise
        return message

    def done(self, message: Message) -> None:
        """Handled, or given up: the conversation's next message may come."""
        conversation = message.correlation_id
        if self._busy.pop(conversation, None) is None:
            return
        self._known.discard(message.message_id)
        self._held -= 1
        if not self._busy:
            self._settled.set()
        if waiting := self._conversations.get(conversation):
            self._offer(waiting[0])
        elif waiting is not None:
            del self._conversations[conversation]
        if self._beyond:
            self._refill()

    def drop(self, conversation: str) -> None:
        """Forget what waits of a conversation, because it is another instance's now. What is under way is not touched."""
        for message in self._conversations.pop(conversation, ()):
            self._known.discard(message.message_id)
            self._held -= 1
        for message in self._beyond.pop(conversation, ()):
            self._known.discard(message.message_id)
        self._refill()

    def drain(self) -> None:
        """Give out nothing more; what waits is in the log."""
        self._draining = True

    async def settled(self) -> None:
        """Until everything that was taken is done."""
        await self._settled.wait()

    def _next(self) -> Message | None:
        while self._ready and not self._draining:
            conversation = self._ready.pop()
            # A conversation that was dropped, and perhaps came again, may stand in line more than once.
            if (waiting := self._conversations.get(conversation)) and conversation not in self._busy:
                message = waiting.popleft()
                self._busy[conversation] = message
                self._settled.clear()
                return message
        return None

    def _take_in(self, message: Message) -> None:
        self._held += 1
        conversation = message.correlation_id
        waiting = self._conversations.get(conversation)
        if waiting is None:
            waiting = self._conversations[conversation] = deque()
        waiting.append(message)
        if len(waiting) == 1 and conversation not in self._busy:
            self._offer(message)

    def _refill(self) -> None:
        while self._held < self._capacity and self._next_in:
            conversation = self._next_in.pop()
            beyond = self._beyond.get(conversation)
            if not beyond:
                continue  # dropped meanwhile
            self._take_in(beyond.popleft())
            if beyond:
                self._next_in.push(beyond[0])
            else:
                del self._beyond[conversation]

    def _offer(self, head: Message) -> None:
        self._ready.push(head)
        if self._waiting:
            self._wake()

    def _wake(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
