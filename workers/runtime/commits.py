"""Commits under way: what one commit of the bus answers comes to the event loop in one call, however many wait for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

import structlog

from bus.base import Bus
from schemas.envelope import Message

log = structlog.get_logger(__name__)

#: The error, or None and the version.
Told = Callable[[BaseException | None, int], None]


class Commits:
    """The way of a host's rows into its bus. Used from one event loop."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._lock = threading.Lock()
        self._answers: list[tuple[Told, BaseException | None, int]] = []
        #: A log's bus answers without a future for each submission.
        self._submit_told: Callable[[Sequence[Message], Told], None] = getattr(bus, "submit_told", self._by_future)

    async def commit(self, rows: Sequence[Message]) -> int:
        """Returns the version, once the rows are in the log. Raises what the bus raises."""
        waiting: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def told(error: BaseException | None, version: int) -> None:
            if waiting.done():  # whoever waited was cancelled
                return
            if error is None:
                waiting.set_result(version)
            else:
                waiting.set_exception(error)

        self.submit(rows, told)
        return await waiting

    def submit(self, rows: Sequence[Message], told: Told) -> None:
        """The same without a task: `told` is called in the event loop."""
        self._submit_told(rows, partial(self._answered, asyncio.get_running_loop(), told))

    def _by_future(self, rows: Sequence[Message], told: Told) -> None:
        def answered(answer: Future[int]) -> None:
            error = answer.exception()
            told(error, answer.result() if error is None else -1)

        self._bus.submit(rows).add_done_callback(answered)

    def _answered(self, loop: asyncio.AbstractEventLoop, told: Told, error: BaseException | None, version: int) -> None:
        """From the bus's thread, once for each submission of a commit: waking the loop for each would cost more than the rest."""
        with self._lock:
            self._answers.append((told, error, version))
            first = len(self._answers) == 1
        if first and not loop.is_closed():
            loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        with self._lock:
            answers, self._answers = self._answers, []
        for told, error, version in answers:
            try:
                told(error, version)
            except Exception:
                log.exception("commit.not_told")  # one that cannot take its answer keeps nobody else from theirs
