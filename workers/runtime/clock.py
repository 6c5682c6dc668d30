"""The clock everything asks for the time, so that tests can hand in another."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """UTC."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def micros(moment: datetime) -> int:
    """UTC microseconds since 1970, the time of the bus."""
    return round(moment.timestamp() * 1_000_000)
