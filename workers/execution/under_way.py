"""What runs here now: one entry a grant, from before its claim until its outcome is known, and the way to end it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from workers.ports import Engine, Executed, OutcomeUnknown

#: Seconds that an engine may take to end what it was told to end.
END_S = 30.0


@dataclass
class Ended:
    """How a run ended, for whoever wished it to: the step that was recorded, and why."""

    step: str = ""
    reason: str = ""


@dataclass
class UnderWay:
    """One run. `stopped_by`: who wished it to end, a person or the time limit."""

    grant_id: str
    requester: str
    engine: Engine
    limit_s: float
    stopped_by: str = ""
    why: str = ""
    outcome: Ended = field(default_factory=Ended)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[Executed] | None = None

    async def carry_out(self, running: Coroutine[Any, Any, Executed]) -> Executed:
        """What the engine says, or raises. Whoever gives up on us ends it as well: it must not go on behind their back."""
        self._task = asyncio.create_task(running)
        try:
            _, late = await asyncio.wait({self._task}, timeout=self.limit_s)
            if late:
                await self.stop("the time limit", f"it took longer than {self.limit_s:g} s")
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait({self._task})
            raise
        if not self._task.done():
            raise OutcomeUnknown(f"it was told to end, and did not within {END_S:g} s")
        if self._task.cancelled():
            raise OutcomeUnknown("it was ended before it said anything")
        return self._task.result()

    @property
    def is_over(self) -> bool:
        """Whether the engine has come back: one that does not end when it is told to may still be at it."""
        return self._task is None or self._task.done()

    async def stop(self, by: str, why: str) -> None:
        """End it, if it can be ended; what became of it, `carry_out` says."""
        self.stopped_by, self.why = self.stopped_by or by, self.why or why
        task = self._task
        if task is None or task.done():
            return
        if await self.engine.cancel(self.grant_id):
            await asyncio.wait({task}, timeout=END_S)
        if not task.done():  # it waits for its turn in the engine, or does not listen
            task.cancel()
            await asyncio.wait({task}, timeout=END_S)
