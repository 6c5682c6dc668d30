"""Tries again after an unexpected exception, with backoff and jitter, as often as the worker says."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import structlog

from workers.runtime.base import Context, Outgoing, Received, Worker
from workers.runtime.clock import Clock
from workers.runtime.middleware import Handler

log = structlog.get_logger(__name__)


@dataclass
class Retry:
    clock: Clock
    first_wait_s: float = 0.1
    longest_wait_s: float = 5.0

    async def __call__(self, call_next: Handler, message: Received, context: Context, worker: Worker) -> list[Outgoing]:
        wait = self.first_wait_s
        for attempt in range(1, worker.max_attempts + 1):
            try:
                return await call_next(message, replace(context, attempt=attempt, now=self.clock.now()))
            except Exception as error:
                if attempt == worker.max_attempts:
                    raise
                log.warning("message.retry", attempt=attempt, error=f"{type(error).__name__}: {error}")
            await self.clock.sleep(random.uniform(wait / 2, wait))
            wait = min(wait * 2, self.longest_wait_s)
        raise AssertionError("unreachable: the last attempt returns or raises")
