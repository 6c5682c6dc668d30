"""Logs how long a handling took."""

from __future__ import annotations

import time

import structlog

from workers.runtime.base import Context, Outgoing, Received, Worker
from workers.runtime.middleware import Handler

log = structlog.get_logger(__name__)


async def timing(call_next: Handler, message: Received, context: Context, worker: Worker) -> list[Outgoing]:
    started = time.perf_counter()
    try:
        return await call_next(message, context)
    finally:
        elapsed = (time.perf_counter() - started) * 1000
        log.debug("message.handled", kind=message.message.kind, elapsed_ms=round(elapsed, 2))
