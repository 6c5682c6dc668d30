"""Producers slow down when an agent asks for it: wait, raise, or ignore. Advice only; no message is ever lost by it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol

from bus.errors import Busy

WhenBusy = Literal["wait", "raise", "ignore"]

#: Seconds between two looks at an agent that asked to slow down.
PAUSE_S = 0.1


class Asked(Protocol):
    """How much waits for an agent, and how much it wants to wait at most."""

    @property
    def open(self) -> int: ...

    @property
    def limit(self) -> int: ...


class Advice(Protocol):
    """What hosts say about their agents; `bus.flow.Flow` is one."""

    def slow_down(self, agent: str) -> Asked | None: ...


class Nobody:
    """For buses in memory: nobody asks for anything."""

    def slow_down(self, agent: str) -> Asked | None:
        return None


class Pressure:
    """`patience`: seconds a producer that waits for room is held back before it hears of it."""

    def __init__(self, advice: Advice, patience: float) -> None:
        self._advice = advice
        self._patience = patience

    def pauses(self, agent: str, when_busy: WhenBusy) -> Iterator[float]:
        """Seconds to sleep, again and again until there is room. Raises Busy."""
        if when_busy == "ignore":
            return
        waited = 0.0
        while (asked := self._advice.slow_down(agent)) is not None:
            if when_busy == "raise" or waited >= self._patience:
                raise Busy(
                    f"{agent} asked its producers to slow down: {asked.open:,} messages wait for it, it wants at most "
                    f"{asked.limit:,}; nothing was sent. Send later, run more instances of it (`tailrace worker`), or send "
                    'with when_busy="ignore"'
                )
            yield PAUSE_S
            waited += PAUSE_S
