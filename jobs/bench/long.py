"""What a long history costs: hops and starts on a log with many rows and its upkeep running, beside an empty log."""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from jobs.bench.contestant import python
from jobs.bench.echo import agent
from jobs.bench.home import BenchSystem
from jobs.bench.lane import Lane
from jobs.bench.race import SPAN
from jobs.bench.table import Measurements
from jobs.bench.tailrace_bus import Tailrace
from jobs.upkeep import BUSY, LOOK_S
from schemas.tables import AGENT_MESSAGES

Say = Callable[[str], None]

#: Engine -> how many times slower than on an empty table a hop may be.
GOALS = {"tail": 1.5, "streaming": 2.0}
#: Seconds a host may take to open a long log.
START_S = 5.0


def measure(
    history: Path, scratch: Path, say: Say, out: Measurements, rounds: int = 5, hops: int = 40, spark: bool = True
) -> None:
    """`history`: a home with a long log; it gets a few more messages. Rounds alternate between it and an empty home.

    `python -m tests.bench.history --messages 1000000 --keep HOME` makes one, and with `--hosts` comes here by itself.
    """
    place = 0
    for engine, goal in GOALS.items():
        if engine == "streaming" and not spark:
            continue
        # Unsigned on both sides: who writes a million rows for a measurement does not sign them.
        empty = Tailrace(scratch / engine, engine, signed=False)
        full = Tailrace(scratch, engine, signed=False, home=history)
        medians: dict[Tailrace, list[float]] = {empty: [], full: []}
        starts: dict[Tailrace, list[float]] = {empty: [], full: []}
        taken: dict[Tailrace, list[float]] = {empty: [], full: []}
        with contextlib.ExitStack() as stack:
            for one in (empty, full):
                one.prepare()
                stack.enter_context(upkeep(one.home))
            rows = full.rows()
            for number in range(rounds if engine == "tail" else min(rounds, 2)):
                for one in (empty, full):
                    say(f"{engine}, round {number + 1}: {'empty' if one is empty else f'{rows:,} rows'}")
                    place += 1
                    # Numbers that an earlier run on the same history has not used.
                    with Lane(one, scratch, SPAN * (place + (os.getpid() << 8))) as lane:
                        found = lane.hops(hops)
                        medians[one].append(statistics.median(found))
                        taken[one] += found
                        starts[one].append(lane.ready_s)
        for one, what in ((empty, "empty log"), (full, f"{rows:,} rows, upkeep running")):
            out.times(f"hop, {engine}, {what}", taken[one])
            out.figure(f"start to first message handled, {engine}, {what}", f"{statistics.median(starts[one]):.1f} s")
        ratio = statistics.median(medians[full]) / statistics.median(medians[empty])
        out.ratio(f"hop p50, {engine}, long log / empty log", ratio, f"at most {goal:g} x", ratio <= goal)
    opened = statistics.median(_open_s(history) for _ in range(3))
    out.figure("open the long log as a host does", f"{opened:.2f} s", f"under {START_S:g} s", opened < START_S)


def _open_s(home: Path) -> float:
    """Seconds until a host's bus knows what is open; Python's own start apart."""
    system = BenchSystem(home, signed=False)
    started = time.perf_counter()
    bus = system.bus([agent()])
    spent = time.perf_counter() - started
    bus.close()
    return spent


@contextlib.contextmanager
def upkeep(home: Path) -> Iterator[None]:
    """The upkeep of this home's log, in a process beside the hosts."""
    process = python("jobs.bench.long", home)
    try:
        yield
    finally:
        process.communicate()


def keep(home: Path) -> None:
    """Pass after pass, as `tailrace upkeep` makes them, until standard input ends."""
    closed = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), closed.set()), daemon=True).start()
    passes = BenchSystem(home, signed=False).upkeep(AGENT_MESSAGES.name)
    while not closed.wait(LOOK_S):
        if passes.due() >= BUSY:
            passes.run()


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
