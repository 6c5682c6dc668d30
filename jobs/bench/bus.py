"""The bus against others in the same run: one hop, sustained rate, processor time, bulk append, four writers at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from jobs.bench import bulk, writers
from jobs.bench.contestant import Contestant
from jobs.bench.race import Effort, Race, Result
from jobs.bench.rivals.deltalake_queue import DeltalakeQueue
from jobs.bench.rivals.dramatiq_queue import Dramatiq
from jobs.bench.rivals.postgres_queue import PostgresQueue
from jobs.bench.rivals.procrastinate_queue import Procrastinate
from jobs.bench.rivals.spark_queue import SparkQueue
from jobs.bench.servers import Missing, Postgres, Redis, Server
from jobs.bench.table import Measurements
from jobs.bench.tailrace_bus import Tailrace

Say = Callable[[str], None]
S = TypeVar("S", bound=Server)

FULL = Effort()
QUICK = Effort(rounds=2, hops=15, slow_rounds=1, slow_hops=5, burst_share=0.3)


def measure(scratch: Path, say: Say, out: Measurements, effort: Effort = FULL, spark: bool = True) -> None:
    """In `scratch`, which a server's own account must be able to enter. What cannot run here is left out, and said so."""
    with contextlib.ExitStack() as stack:
        race = Race(scratch, effort, say)
        postgres = _server(stack, Postgres(scratch / "postgres"), out, "procrastinate, SKIP LOCKED, COPY")
        redis = _server(stack, Redis(scratch / "redis"), out, "dramatiq")
        contestants = [*_rivals(race, postgres, redis), *_ours(scratch), DeltalakeQueue(scratch)]
        if spark:
            contestants += [SparkQueue(scratch), Tailrace(scratch, engine="streaming", burst=2000)]
        results = race.run(contestants)
        _show(results, out)
        _goals(results, out)
        bulk.measure(scratch, postgres, say, out, rounds=effort.rounds)
    writers.measure(scratch, say, out)


def _server(stack: contextlib.ExitStack, server: S, out: Measurements, who: str) -> S | None:
    try:
        return stack.enter_context(server)
    except Missing as error:
        out.figure(who, f"left out: {error}")
        return None


def _ours(scratch: Path) -> list[Contestant]:
    return [
        Tailrace(scratch),
        Tailrace(scratch, durability="disk"),
        Tailrace(scratch, signed=False),
        Tailrace(scratch, answer=False),
        Tailrace(scratch, hosts=2),
    ]


def _rivals(race: Race, postgres: Postgres | None, redis: Redis | None) -> list[Contestant]:
    """Each as its own trial shows it best."""
    found: list[Contestant] = []
    if postgres is not None:
        sizes = [(1, 1), (10, 1), (30, 1), (10, 2)]
        found.append(race.best([Procrastinate(postgres, jobs, workers) for jobs, workers in sizes]))
        found.append(race.best([PostgresQueue(postgres, batch) for batch in (1, 10, 100)]))
    if redis is not None:
        best = race.best([Dramatiq(redis, threads, n) for threads, n in [(1, 1), (8, 1), (4, 2), (8, 2)]])
        found += [best, best.hasty()]
    return found


def _show(results: Sequence[Result], out: Measurements) -> None:
    """A row each: hops, messages handled a second, processor time of a message."""
    for result in results:
        name = f"{result.contestant.name}{f', {how}' if (how := result.contestant.how) else ''}"
        if result.rates:
            out.times(name, result.hops, result.per_second, result.cpu_per_thousand)
        if result.failed:
            out.figure(name, f"left out: {result.failed}")


def _goals(results: Sequence[Result], out: Measurements) -> None:
    by_name = {result.contestant.name: result for result in results if result.rates}
    ours, disk = by_name.get("Tailrace (tail, os)"), by_name.get("Tailrace (tail, disk)")
    for rival in ("procrastinate", "dramatiq", "dramatiq, hasty"):
        other = by_name.get(rival)
        if other is None:
            continue
        for mine, share, goal in ((ours, 0.5, "at most 0.5 x"), (disk, 1.0, "at most 1 x")):
            if mine is not None:
                ratio = mine.hop_p50 / other.hop_p50
                out.ratio(f"hop p50, {mine.contestant.name} / {rival}", ratio, goal, ratio <= share)
    if (other := by_name.get("procrastinate")) is not None:
        # "receipts only" is what procrastinate does: a message is handled, and its receipt is there. The others answer as well.
        for words in ("tail, os, receipts only", "tail, os", "tail, disk", "tail, os, unsigned", "tail, os, 2 hosts"):
            name = f"Tailrace ({words})"
            if (mine := by_name.get(name)) is not None:
                ratio = mine.per_second / other.per_second
                if "hosts" in words:  # for two machines; on two cores they and the sender wait for each other
                    out.figure(f"sustained, {name} / procrastinate", f"{ratio:.2g} x")
                else:
                    out.ratio(f"sustained, {name} / procrastinate", ratio, "at least 10 x", ratio >= 10)
        if ours is not None:
            ratio = other.cpu_per_thousand / ours.cpu_per_thousand
            out.figure(f"CPU of a message, procrastinate / {ours.contestant.name}", f"{ratio:.1f} x")
