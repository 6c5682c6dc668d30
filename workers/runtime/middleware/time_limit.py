"""Ends an attempt that takes longer than the worker says; the retry around it decides what then."""

from __future__ import annotations

import asyncio

from workers.runtime.base import Context, Outgoing, Received, Worker
from workers.runtime.middleware import Handler


async def time_limit(call_next: Handler, message: Received, context: Context, worker: Worker) -> list[Outgoing]:
    try:
        async with asyncio.timeout(worker.timeout_s):
            return await call_next(message, context)
    except TimeoutError as error:
        raise TimeoutError(f"{worker.name} took longer than {worker.timeout_s:g} s") from error
