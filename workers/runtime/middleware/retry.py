"""Tries again after an unexpected exception, with backoff and jitter, as often as the worker says."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import structlog

from workers.runtime.base import Context, Outgoing, Permanent, Received, Worker
from workers.runtime.clock import Clock, micros
from workers.runtime.middleware import Handler

log = structlog.get_logger(__name__)


@dataclass
class Retry:
    clock: Clock
    first_wait_s: float = 0.1
    longest_wait_s: float = 5.0

    async def __call__(self, call_next: Handler, message: Received, context: Context, worker: Worker) -> list[Outgoing]:
        wait = self.first_wait_s
        expires_at = message.message.expires_at
        while True:
            try:
                return await call_next(message, context)
            except Permanent:
                raise
            except Exception as error:
                attempt = context.handling.attempts
                if attempt >= worker.max_attempts:
                    raise
                log.warning("message.retry", attempt=attempt, error=f"{type(error).__name__}: {error}")
                await self.clock.sleep(random.uniform(wait / 2, wait))
                if expires_at is not None and expires_at < micros(self.clock.now()):
                    raise  # nobody wants it any more
            wait = min(wait * 2, self.longest_wait_s)
            context.handling.attempts = attempt + 1
            context = replace(context, attempt=attempt + 1, now=self.clock.now())
