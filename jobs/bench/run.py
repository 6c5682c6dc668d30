"""All measurements of one run, in their order."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from config.settings import Settings
from jobs.bench import appends, bus, decisions, hops, long, pipeline
from jobs.bench.table import Measurements
from jobs.bootstrap import System
from jobs.init_home import initialise

#: Part -> what it measures, for the command line.
PARTS = {
    "append": "one message a commit",
    "hop": "between two processes",
    "pipeline": "five agents",
    "decision": "the policy, by 200 rules",
    "idle": "nothing to do",
    "bus": "the bus against PostgreSQL, Redis and Spark",
}
#: Measured when no part is named: what needs nothing but Tailrace.
USUAL = ("append", "hop", "decision", "pipeline", "idle")


def run(
    parts: list[str],
    say: Callable[[str], None],
    quick: bool = False,
    spark: bool = True,
    history: Path | None = None,
    rounds: int | None = None,
) -> Measurements:
    """In a home of its own, which is gone afterwards.

    Of the part `bus`: `quick`, `spark`, `rounds`, and `history`, a home with a long log to measure instead of all else.
    """
    effort = bus.QUICK if quick else bus.FULL
    if rounds is not None:
        effort = replace(effort, rounds=rounds)
    out = Measurements()
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-") as folder:
        scratch = Path(folder)
        scratch.chmod(0o711)  # PostgreSQL does not run as root: its account passes through here
        if "bus" in parts and history is not None:
            long.measure(history, scratch, say, out, rounds=effort.rounds, spark=spark)
        elif "bus" in parts:
            bus.measure(scratch, say, out, effort, spark)
        if "append" in parts:
            appends.measure(scratch, say, out)
        if "hop" in parts:
            hops.measure(scratch, say, out)
        if "decision" in parts:
            decisions.measure(say, out)
        if "pipeline" in parts or "idle" in parts:
            system = System(Settings.load(home=str(scratch / "home")))
            say("a home with the sample data")
            initialise(system, lambda _: None)
            if "idle" in parts:
                pipeline.measure_idle(system, say, out)
            if "pipeline" in parts:
                pipeline.measure(system, say, out)
    return out
