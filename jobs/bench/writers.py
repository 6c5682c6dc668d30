"""Four processes append to one log at once, message by message: what each waited, and whether every message is there."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

from jobs.bench.echo import Ping, agent
from jobs.bench.home import BenchSystem
from jobs.bench.table import Measurements, quantile
from schemas.tables import AGENT_MESSAGES

Say = Callable[[str], None]

WRITERS = 4


def measure(scratch: Path, say: Say, out: Measurements, each: int = 200, rounds: int = 3) -> None:
    """The same again on a new table each round; ratios by the medians of the rounds."""
    waited: list[float] = []
    middle: list[float] = []
    slowest: list[float] = []
    sent = lost = doubled = 0
    for number in range(rounds):
        say(f"{WRITERS} writers at once, round {number + 1} of {rounds}")
        system = BenchSystem(scratch / f"writers-{number}")
        system.make([agent()])
        waits, ids = _together(system, each)
        there = _message_ids(system.home.table(AGENT_MESSAGES.name))
        waited += waits
        middle.append(quantile(waits, 0.5))
        slowest.append(quantile(waits, 0.99))
        sent += len(ids)
        lost += len(ids - set(there))
        doubled += len(there) - len(set(there))
    out.times(f"append, {WRITERS} writers at once", waited)
    ratio = statistics.median(slowest) / statistics.median(middle)
    out.ratio("  p99 / p50", ratio, "at most 10 x", ratio <= 10)
    out.figure("  lost, doubled (read by deltalake)", f"{lost}, {doubled} of {sent}", "none", lost + doubled == 0)


def _together(system: BenchSystem, each: int) -> tuple[list[float], set[str]]:
    context = get_context("spawn")
    start = context.Barrier(WRITERS)
    with ProcessPoolExecutor(WRITERS, mp_context=context, initializer=_remember, initargs=(start,)) as processes:
        asked = [processes.submit(append, system.home.root, each) for _ in range(WRITERS)]
        done = [one.result() for one in asked]
    return [wait for waits, _ in done for wait in waits], {message_id for _, ids in done for message_id in ids}


def _message_ids(table: object) -> list[str]:
    from deltalake import DeltaTable

    found: list[str] = DeltaTable(str(table)).to_pyarrow_table(columns=["message_id"])["message_id"].to_pylist()
    return found


# --- in a writer's process ---------------------------------------------------------------------------------------------

_start: Barrier


def _remember(start: Barrier) -> None:
    global _start  # noqa: PLW0603  # the pool's only way to hand over what cannot be sent later
    _start = start


def append(home: Path, count: int) -> tuple[list[float], list[str]]:
    """Milliseconds each append took, and the ids."""
    with BenchSystem(home).sending_client() as client:
        client.send("Echo", Ping())  # the first one opens files and warms up
        _start.wait(60)
        waited, ids = [], []
        for number in range(count):
            started = time.perf_counter()
            sent = client.send("Echo", Ping(number=number))
            waited.append((time.perf_counter() - started) * 1000)
            ids.append(sent.message_id)
    return waited, ids
