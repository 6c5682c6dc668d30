"""Logs how long a handling took, and counts it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import structlog

from workers.runtime.base import Context, Outgoing, Received, Worker
from workers.runtime.middleware import Handler

log = structlog.get_logger(__name__)


@dataclass
class Timing:
    """Milliseconds spent in handlers, by worker; kept for `agents` and for the benchmark."""

    spent_ms: dict[str, list[float]] = field(default_factory=dict)

    async def __call__(self, call_next: Handler, message: Received, context: Context, worker: Worker) -> list[Outgoing]:
        started = time.perf_counter()
        try:
            return await call_next(message, context)
        finally:
            elapsed = (time.perf_counter() - started) * 1000
            recent = self.spent_ms.setdefault(worker.name, [])
            recent.append(elapsed)
            del recent[:-1000]
            log.debug("message.handled", kind=message.message.kind, elapsed_ms=round(elapsed, 2))
