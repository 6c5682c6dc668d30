"""Ends an attempt that takes longer than the worker says; the retry around it decides what then."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

from workers.runtime.base import Context, Outgoing, Received, Worker
from workers.runtime.middleware import Handler


async def time_limit(call_next: Handler, message: Received, context: Context, worker: Worker) -> list[Outgoing]:
    handling: Any = call_next(message, context)
    # A handler that never waits needs no clock, and most never do: a time limit costs more than all else around them.
    try:
        first = handling.send(None)
    except StopIteration as done:
        outputs: list[Outgoing] = done.value
        return outputs
    try:
        async with asyncio.timeout(worker.timeout_s) as limit:
            return await _Rest(handling, first)
    except TimeoutError as error:
        if not limit.expired():
            raise  # the handler's own
        raise TimeoutError(f"{worker.name} took longer than {worker.timeout_s:g} s") from error


class _Rest:
    """What is left of a coroutine that has begun, and waits for `first`."""

    def __init__(self, coroutine: Coroutine[Any, Any, list[Outgoing]], first: Any) -> None:
        self._coroutine = coroutine
        self._first = first

    def __await__(self) -> Generator[Any, Any, list[Outgoing]]:
        waits_for = self._first
        while True:
            try:
                try:
                    answer = yield waits_for
                except GeneratorExit:
                    self._coroutine.close()
                    raise
                except BaseException as error:
                    waits_for = self._coroutine.throw(error)
                else:
                    waits_for = self._coroutine.send(answer)
            except StopIteration as done:
                outputs: list[Outgoing] = done.value
                return outputs
