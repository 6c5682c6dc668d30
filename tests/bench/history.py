"""A long history of one-message commits with upkeep beside it: does what a message, an open and a start cost stay flat?

`python -m tests.bench.history --messages 100000`: one process appends, one keeps the table in shape, and at each tenth of
the way this one measures. With `--hosts` it then measures hosts on this log beside hosts on an empty one, upkeep running: a hop,
and the time from starting a host until its first message is handled, with the tail and with Structured Streaming. `--keep HOME`
leaves the home, for `tailrace bench bus --history HOME`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from apps.cli.terminal import Terminal
from apps.cli.views.bench import measurements
from bus.log import rows as codec
from bus.log.consumers import Consumers
from bus.log.contents import load
from bus.log.follower import Follower
from bus.log.health import health
from bus.log.snapshot import Snapshots
from bus.log.table import DeltaLog
from bus.log.upkeep import Folding, Limits, Upkeep
from jobs import logging
from jobs.bench import long
from jobs.bench.table import Measurements
from schemas.envelope import Message
from schemas.tables import AGENT_MESSAGES

#: Every so many messages one stays open: the open set is what a start costs.
OPEN_EVERY = 1_000
#: Whom they are for: nobody that is started here, so that what is open is the same at each start.
PAST = "Past"
CONTENT = json.dumps({"question": "x" * 250})


@dataclass
class Point:
    """What was measured after so many messages; times in milliseconds, the appends' since the point before."""

    messages: int
    append_ms: float
    upkeep_cpu_ms: float
    upkeep_memory_mb: float
    log_entries: int
    active_files: int
    files_on_disk: int
    open_deltalake_ms: float
    start_ms: float


def table_at(folder: str) -> DeltaLog:
    return DeltaLog(Path(folder), AGENT_MESSAGES)


def messages(count: int) -> list[list[Message]]:
    """Commits of one request, or of the receipt for the request before."""
    made: list[list[Message]] = []
    for n in range(count):
        request = Message(
            message_id=uuid.uuid4().hex,
            correlation_id=uuid.uuid4().hex,
            from_agent="user:eli",
            to_agent=PAST,
            message_type="request",
            kind="Ask",
            content=CONTENT,
            timestamp=1_767_225_600_000_000 + n,
            principal="eli",
        )
        if n % 2 and n % OPEN_EVERY != OPEN_EVERY - 1:
            before = made[-1][0]
            request = request.model_copy(
                update={
                    "message_type": "receipt",
                    "kind": "Handled",
                    "from_agent": PAST,
                    "to_agent": "*",
                    "causation_id": before.message_id,
                    "correlation_id": before.correlation_id,
                    "content": "{}",
                }
            )
        made.append([request])
    return made


def write(folder: str, total: int, together: int, written: Synchronized[int], go: Event) -> None:
    """Commits of so many messages, each at the next version; whoever takes it meanwhile is stepped over."""
    table = table_at(folder)
    version = table.head() + 1
    done = 0
    while done < total:
        made = messages(min(10_000, total - done))
        commits = [[m for one in made[n : n + together] for m in one] for n in range(0, len(made), together)]
        go.wait()
        for commit in commits:
            while not table.put_encoded(version, codec.encode(commit, version, [])).won:
                version += 1
            version += 1
            done += len(commit)
            written.value = done
            if done % max(1, total // 10) == 0:
                go.clear()
                go.wait()


def keep(folder: str, together: int, stop: Event, caught_up: Synchronized[int], used: Any) -> None:
    logging.configure("WARNING")  # and to standard error
    table = table_at(folder)
    upkeep = Upkeep(table, Consumers(table), Limits(keep_s=30.0), Folding(Snapshots(table), lambda _: True))
    while not stop.is_set():
        if upkeep.due() * together >= 400 or stop.wait(0.1):
            done = upkeep.run()
            caught_up.value = done.version
            spent = resource.getrusage(resource.RUSAGE_SELF)
            used[0], used[1] = spent.ru_utime + spent.ru_stime, spent.ru_maxrss / 1024


def timed(work: Callable[[], Any], times: int = 5) -> float:
    """The median in milliseconds."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append((time.perf_counter() - began) * 1000)
    return sorted(found)[times // 2]


def measure(table: DeltaLog, total: int, began: float, used: Any, before: tuple[int, float]) -> Point:
    elapsed = time.perf_counter() - began
    done, cpu = total - before[0], used[0] - before[1]
    there = health(table)
    return Point(
        messages=total,
        append_ms=elapsed * 1000 / done,
        upkeep_cpu_ms=cpu * 1000 / done,
        upkeep_memory_mb=used[1],
        log_entries=there.entries,
        active_files=there.files,
        files_on_disk=sum(1 for _ in table.path.glob("date=*/*")),
        open_deltalake_ms=timed(table.open),
        start_ms=timed(lambda: Follower(table, snapshots=Snapshots(table))),
    )


def run(folder: Path, total: int, say: Callable[[Point], None], together: int = 1) -> list[Point]:
    table = table_at(str(folder))
    table.create()
    spawn = multiprocessing.get_context("spawn")
    written, caught_up = spawn.Value("q", 0), spawn.Value("q", -1)
    go, stop, used = spawn.Event(), spawn.Event(), spawn.Array("d", 2)
    writer = spawn.Process(target=write, args=(str(folder), total, together, written, go))
    keeper = spawn.Process(target=keep, args=(str(folder), together, stop, caught_up, used))
    writer.start()
    keeper.start()
    points: list[Point] = []
    before = (0, 0.0)
    for part in itertools.count(1):
        until = min(total, part * max(1, total // 10))
        began = time.perf_counter()
        go.set()
        while written.value < until or (go.is_set() and until < total):
            time.sleep(0.005)
            if not (writer.is_alive() or written.value >= total) or not keeper.is_alive():
                raise SystemExit("a process ended before its time")
        points.append(measure(table, until, began, used, before))
        before = (until, used[0])
        say(points[-1])
        if until >= total:
            break
    go.set()
    writer.join()
    stop.set()
    keeper.join()
    check(table, total)
    return points


def check(table: DeltaLog, total: int) -> None:
    """Every message once, by deltalake."""
    ids = table.open().to_pyarrow_table(columns=["message_id"]).column(0)
    if (len(ids), len(ids.unique())) != (total, total) or sum(one.rows for one in load(table).files.values()) != total:
        raise SystemExit(
            f"{total} messages were committed, and {len(ids)} rows are there, {len(ids.unique())} of them once"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument(
        "--together", type=int, default=1, help="messages a commit; more of them make a long table sooner"
    )
    parser.add_argument("--hosts", action="store_true", help="then measure hosts on it, beside hosts on an empty log")
    parser.add_argument("--rounds", type=int, default=5, help="of starting hosts; at most 2 with Structured Streaming")
    parser.add_argument("--hops", type=int, default=40, help="a round")
    parser.add_argument("--spark", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--keep", type=Path, metavar="HOME", help="leave the home here")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    logging.configure("WARNING")
    scratch = Path(tempfile.mkdtemp(prefix="history-"))
    home = (chosen.keep or scratch / "home").absolute()
    headings = list(Point.__dataclass_fields__)
    if not chosen.json:
        print("  ".join(f"{name:>17}" for name in headings))

    def say(point: Point) -> None:
        if not chosen.json:
            cells = [f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" for value in asdict(point).values()]
            print("  ".join(f"{cell:>17}" for cell in cells), flush=True)

    hosts = Measurements()
    try:
        points = run(home / "tables" / "agent_messages", chosen.messages, say, chosen.together)
        if chosen.hosts:
            long.measure(home, scratch, log, hosts, rounds=chosen.rounds, hops=chosen.hops, spark=chosen.spark)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if chosen.json:
        print(json.dumps({"points": [asdict(point) for point in points], "hosts": hosts.document()}, indent=2))
    elif chosen.hosts:
        Terminal().show(measurements(hosts.rows))


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
