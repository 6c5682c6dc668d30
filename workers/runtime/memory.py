"""Shared memory as a handler sees it: with the rights of the principal, and each write counting once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from bus.shared import KEPT, Asker, ScopeRefused, SharedMemory
from schemas.envelope import Message
from workers.ports import MemoryRefused
from workers.runtime.base import Handling


class HandlerMemory:
    """What one handling reads and writes.

    The id of a fact is made of the message, the key and how often this attempt has written the key: a second attempt,
    or a second handling after a crash, writes the same facts, and those that are there already count.
    """

    def __init__(
        self, shared: SharedMemory, agent: str, message: Message, principal: str | None, handling: Handling
    ) -> None:
        self._shared = shared
        self._agent, self._principal = agent, principal
        self._message = message
        self._handling = handling
        self._written: dict[tuple[int, str, str], int] = {}

    @property
    def _asker(self) -> Asker:
        """Made when it is asked for: every handling has a memory, and few use it."""
        return Asker(self._agent, self._principal)

    async def get(self, scope: str, key: str) -> Any:
        return await self._ask(lambda: self._shared.get(scope, key, self._asker))

    async def keys(self, scope: str) -> Sequence[str]:
        return await self._ask(lambda: self._shared.keys(scope, self._asker))

    async def put(self, scope: str, key: str, value: Any, *, ttl_s: float | None = None) -> None:
        kept = KEPT if ttl_s is None else timedelta(seconds=ttl_s)
        ids = self._ids(scope, key)
        await self._ask(lambda: self._shared.put(scope, key, value, self._asker, kept=kept, **ids))

    async def delete(self, scope: str, key: str) -> None:
        ids = self._ids(scope, key)
        await self._ask(lambda: self._shared.delete(scope, key, self._asker, **ids))

    def _ids(self, scope: str, key: str) -> dict[str, str]:
        place = (self._handling.attempts, scope, key)
        self._written[place] = self._written.get(place, 0) + 1
        said = [self._message.message_id, self._asker.writer, scope, key, str(self._written[place])]
        fact_id = hashlib.sha256("\0".join(said).encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return {"fact_id": fact_id, "message_id": self._message.message_id}

    async def _ask(self, step: Callable[[], Any]) -> Any:
        """Beside the event loop: the table may be on another machine."""
        try:
            return await asyncio.to_thread(step)
        except ScopeRefused as error:
            raise MemoryRefused(str(error)) from error
