from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from jobs.bench.contestant import Contestant, Sender
from jobs.bench.lane import Rate
from jobs.bench.race import Effort, Race
from jobs.bench.servers import Missing
from jobs.bench.work import NoWord


class Scripted(Contestant):
    """Hops and rates as the test says."""

    def __init__(
        self,
        name: str,
        hops: list[float],
        per_second: float = 100.0,
        slow: bool = False,
        problem: Exception | None = None,
    ) -> None:
        self.name, self.slow = name, slow
        self.script, self.per_second, self.problem = hops, per_second, problem

    def prepare(self) -> None:
        if isinstance(self.problem, Missing):
            raise self.problem

    def sender(self) -> Sender:
        raise NotImplementedError

    def workers(self, reports: Path) -> list[Any]:
        raise NotImplementedError

    def finished(self, count: int, timeout: float) -> float:
        raise NotImplementedError


class ScriptedLane:
    def __init__(self, contestant: Scripted, order: list[str], first: int) -> None:
        self._contestant = contestant
        order.append(contestant.name)
        self.first = first

    def __enter__(self) -> "ScriptedLane":
        return self

    def __exit__(self, *_: object) -> None:
        return

    def hops(self, count: int) -> list[float]:
        if self._contestant.problem is not None:
            raise self._contestant.problem
        return [self._contestant.script.pop(0)] * count

    def rate(self, count: int, timeout: float = 0.0) -> Rate:
        return Rate(count, count / self._contestant.per_second, 1.0)


@pytest.fixture
def order() -> list[str]:
    return []


@pytest.fixture
def race(order: list[str], tmp_path: Path) -> Callable[[Effort], Race]:
    return lambda effort: Race(tmp_path, effort, lambda _: None, lambda one, _, first: ScriptedLane(one, order, first))


def test_contestants_take_turns_in_every_round(race: Any, order: list[str]) -> None:
    race(Effort(rounds=3, hops=1)).run([Scripted("a", [1, 1, 1]), Scripted("b", [2, 2, 2])])
    assert order == ["a", "b"] * 3


def test_what_starts_slowly_has_fewer_rounds(race: Any, order: list[str]) -> None:
    race(Effort(rounds=3, hops=1, slow_rounds=1)).run([Scripted("a", [1, 1, 1]), Scripted("spark", [9], slow=True)])
    assert order == ["a", "spark", "a", "a"]


def test_one_bad_round_does_not_move_the_median(race: Any) -> None:
    (result,) = race(Effort(rounds=3, hops=5)).run([Scripted("a", [2.0, 90.0, 3.0])])
    assert result.hop_p50 == 3.0
    assert len(result.hops) == 15


def test_who_is_missing_or_fails_is_left_out_and_says_why(race: Any, order: list[str]) -> None:
    found = race(Effort(rounds=2, hops=1)).run(
        [
            Scripted("absent", [], problem=Missing("no redis-server")),
            Scripted("silent", [], problem=NoWord("1 of 1 messages were not handled")),
            Scripted("closed", [], problem=BrokenExecutor("a process ended")),
            Scripted("a", [1, 1]),
        ]
    )
    assert [result.failed for result in found] == [
        "no redis-server",
        "1 of 1 messages were not handled",
        "a process ended",
        "",
    ]
    assert order == ["silent", "closed", "a", "a"]


def test_the_fastest_variant_is_taken(race: Any) -> None:
    variants = [Scripted(name, [], per_second) for name, per_second in (("1", 100), ("10", 300), ("30", 200))]
    assert race(Effort()).best(variants).name == "10"


def test_no_rates_are_measured_for_a_share_of_nothing(race: Any) -> None:
    (result,) = race(Effort(rounds=1, hops=1, burst_share=0.0)).run([Scripted("a", [1])])
    assert result.rounds == [[1]]
    assert result.rates == []


def test_two_starts_share_no_numbers(tmp_path: Path) -> None:
    firsts: list[int] = []

    def lane(one: Scripted, _: Path, first: int) -> ScriptedLane:
        firsts.append(first)
        return ScriptedLane(one, [], first)

    Race(tmp_path, Effort(rounds=3, hops=1), lambda _: None, lane).run([Scripted("a", [1, 1, 1])])
    assert min(after - before for before, after in pairwise(firsts)) > 1_000_000
