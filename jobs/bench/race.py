"""Several contestants over several rounds: one after the other in each round, so that noise hits all alike; medians."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from jobs.bench.contestant import Contestant
from jobs.bench.lane import Lane, NoReceipts, Rate
from jobs.bench.servers import Missing
from jobs.bench.work import NoWord

Say = Callable[[str], None]
C = TypeVar("C", bound=Contestant)

#: Numbers of messages of one start of a contestant; no two starts share any.
SPAN = 10_000_000
#: What leaves a contestant out, and the others in. A broken pool: its sender could not open what it needs.
FAILURES = (NoWord, NoReceipts, BrokenExecutor)


@dataclass
class Result:
    """What one contestant did. `rounds` holds a list of hops a round."""

    contestant: Contestant
    rounds: list[list[float]] = field(default_factory=list)
    rates: list[Rate] = field(default_factory=list)
    failed: str = ""

    @property
    def hops(self) -> list[float]:
        return [hop for one in self.rounds for hop in one]

    @property
    def hop_p50(self) -> float:
        """The median of the rounds' medians."""
        return statistics.median(statistics.median(one) for one in self.rounds)

    @property
    def per_second(self) -> float:
        return statistics.median(rate.per_second for rate in self.rates)

    @property
    def cpu_per_thousand(self) -> float:
        return statistics.median(rate.cpu_per_thousand for rate in self.rates)


@dataclass(frozen=True)
class Effort:
    """How much is measured: rounds and hops a round, fewer for contestants that take long to start, and what share of
    their bursts; 0 measures no rates."""

    rounds: int = 5
    hops: int = 40
    slow_rounds: int = 2
    slow_hops: int = 15
    burst_share: float = 1.0


Open = Callable[[Contestant, Path, int], Lane]


class Race:
    """`lane`: how a contestant is started."""

    def __init__(self, scratch: Path, effort: Effort, say: Say, lane: Open = Lane) -> None:
        self._open = lane
        self._scratch = scratch
        self._effort = effort
        self._say = say
        self._starts = 0

    def run(self, contestants: Sequence[Contestant]) -> list[Result]:
        results = [Result(one) for one in contestants]
        for result in results:
            try:
                result.contestant.prepare()
            except Missing as error:
                result.failed = str(error)
        for number in range(self._effort.rounds):
            for result in results:
                if not result.failed and not (result.contestant.slow and number >= self._effort.slow_rounds):
                    self._say(f"round {number + 1} of {self._effort.rounds}: {result.contestant.name}")
                    self._measure(result)
        return results

    def best(self, variants: Sequence[C]) -> C:
        """The variant with the highest rate in a short trial each; the last one when none can be tried."""
        tried: list[tuple[float, C]] = []
        for one in variants:
            self._say(f"tuning {one.name}: {one.how}")
            try:
                one.prepare()
                with self._lane(one) as lane:
                    rates = [lane.rate(max(200, one.burst // 3)).per_second for _ in range(2)]
            except (Missing, *FAILURES):
                continue
            tried.append((max(rates), one))
        return max(tried, key=lambda pair: pair[0])[1] if tried else variants[-1]

    def _measure(self, result: Result) -> None:
        one = result.contestant
        try:
            with self._lane(one) as lane:
                result.rounds.append(lane.hops(self._effort.slow_hops if one.slow else self._effort.hops))
                if self._effort.burst_share:
                    result.rates.append(lane.rate(max(50, int(one.burst * self._effort.burst_share))))
        except FAILURES as error:
            result.failed = str(error)

    def _lane(self, one: Contestant) -> Lane:
        self._starts += 1
        return self._open(one, self._scratch, self._starts * SPAN)
