"""Commits under way: what one commit of the bus answers comes to the event loop in one call, however many wait for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future

from bus.base import Bus
from schemas.envelope import Message


class Commits:
    """The way of a host's rows into its bus. Used from one event loop."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._lock = threading.Lock()
        self._answers: list[tuple[asyncio.Future[int], Future[int]]] = []

    async def commit(self, rows: Sequence[Message]) -> int:
        """Returns the version, once the rows are in the log. Raises what the bus raises."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[int] = loop.create_future()
        self._bus.submit(rows).add_done_callback(lambda answer: self._answered(loop, waiting, answer))
        return await waiting

    def _answered(self, loop: asyncio.AbstractEventLoop, waiting: asyncio.Future[int], answer: Future[int]) -> None:
        """From the bus's thread, once for each submission of a commit: waking the loop for each would cost more than the rest."""
        with self._lock:
            self._answers.append((waiting, answer))
            first = len(self._answers) == 1
        if first and not loop.is_closed():
            loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        with self._lock:
            answers, self._answers = self._answers, []
        for waiting, answer in answers:
            if waiting.done():  # whoever waited was cancelled
                continue
            error = answer.exception()
            if error is None:
                waiting.set_result(answer.result())
            else:
                waiting.set_exception(error)
