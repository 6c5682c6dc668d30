"""Where the time of one hop goes, step by step through both processes: `python -m tests.bench.anatomy`, kept as JSON.

The steps are the product's own functions, wrapped here to note when they begin and end. A step that is no longer there is an
error, so that the picture cannot quietly lose one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bus.log import rows as codec
from bus.log.bus import LogBus
from bus.log.seal import SigningSeal
from bus.log.store import LocalStore
from bus.log.table import DeltaLog
from jobs import logging
from jobs.bench.echo import Ping, agent, serve
from jobs.bench.home import BenchSystem
from workers.runtime.host import Host
from workers.runtime.runner import Runner

ROOT = Path(__file__).parents[2]

#: (step, function whose beginning or end is where the step ends). In the sender, then in the host.
SENDER = (
    ("compose the message", LogBus, "submit_here", "begins"),
    ("begin the commit", SigningSeal, "apply", "begins"),
    ("sign", SigningSeal, "apply", "ends"),
    ("encode", codec, "encode", "ends"),
    ("write the data file", LocalStore, "put", "ends"),
)
HOST = (
    # Seen by the host before the sender hears that it is there, so the two are one step.
    ("put the entry, be noticed", DeltaLog, "entry", "begins"),
    ("read the entry", DeltaLog, "entry", "ends"),
    ("decode the rows", codec, "of_entry", "ends"),
    ("fold, wake the event loop", Host, "_accept", "begins"),
    ("inbox", Runner, "handle", "begins"),
    ("verify the signature", Runner, "_check", "ends"),
    ("validate, begin the handler", None, "handler", "begins"),
)
Stamps = dict[str, list[int]]


@dataclass(frozen=True)
class Anatomy:
    """Median microseconds of each step, and of the whole."""

    durability: str
    steps: dict[str, float]
    hop_us: float
    acknowledged_us: float
    count: int


def watch(steps: tuple[tuple[str, Any, str, str], ...]) -> Stamps:
    """Note the times at which these functions begin and end, from now on."""
    noted: Stamps = {}
    for owner, name in dict.fromkeys((owner, name) for _, owner, name, _ in steps if owner is not None):
        setattr(owner, name, _noting(getattr(owner, name), name, noted))
    return noted


def _noting(function: Callable[..., Any], name: str, noted: Stamps) -> Callable[..., Any]:
    begins, ends = noted.setdefault(f"{name} begins", []), noted.setdefault(f"{name} ends", [])

    def noting(*arguments: Any, **named: Any) -> Any:
        started = time.monotonic_ns()
        result = function(*arguments, **named)
        if name != "entry" or result is not None:  # a look in vain is no step
            begins.append(started)
            ends.append(time.monotonic_ns())
        return result

    return noting


def host(home: str, durability: str, kept: str) -> None:
    """The handling side; leaves its times behind when standard input ends."""
    noted = watch(HOST)
    begun = noted.setdefault("handler begins", [])
    system = BenchSystem(Path(home), "disk" if durability == "disk" else "os")
    asyncio.run(serve(system, "tail", lambda _: begun.append(time.monotonic_ns())))
    Path(kept).write_text(json.dumps(noted))


def measure(scratch: Path, durability: str, count: int) -> Anatomy:
    home, kept = scratch / f"home-{durability}", scratch / f"{durability}.json"
    system = BenchSystem(home, "disk" if durability == "disk" else "os")
    system.make([agent()])
    words = ["host", home, durability, kept]
    command = [sys.executable, "-m", "tests.bench.anatomy", *map(str, words)]
    sent: list[int] = []
    acknowledged: list[int] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE) as other, system.sending_client() as client:
        client.request("Echo", Ping(), timeout=60)  # until the host is there and warm
        here = watch(SENDER)
        for number in range(count):
            time.sleep(random.uniform(0.01, 0.03))
            sent.append(time.monotonic_ns())
            client.send("Echo", Ping(number=number, answer=False))
            acknowledged.append(time.monotonic_ns())
        time.sleep(0.5)
        assert other.stdin is not None
        other.stdin.close()
        other.wait(60)
    there: Stamps = json.loads(kept.read_text())
    return _anatomy(durability, sent, acknowledged, here | there)


def _anatomy(durability: str, sent: list[int], acknowledged: list[int], noted: Stamps) -> Anatomy:
    spent: dict[str, list[int]] = {}
    whole: list[int] = []
    for started in sent:
        at = started
        for step, _, name, edge in (*SENDER, *HOST):
            after = next((t for t in noted[f"{name} {edge}"] if t >= at), None)
            if after is None:
                raise RuntimeError(f"nobody was seen to {step}: has {name} another way now?")
            spent.setdefault(step, []).append(after - at)
            at = after
        whole.append(at - started)
    waits = [end - begin for begin, end in zip(sent, acknowledged, strict=True)]
    return Anatomy(
        durability,
        {step: round(statistics.median(times) / 1000, 1) for step, times in spent.items()},
        round(statistics.median(whole) / 1000, 1),
        round(statistics.median(waits) / 1000, 1),
        len(sent),
    )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--count", type=int, default=200)
    asked.add_argument("--out", type=Path, default=ROOT / "build" / "bench")
    words = asked.parse_args()
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-") as folder:
        found = [measure(Path(folder), durability, words.count) for durability in ("os", "disk")]
    words.out.mkdir(parents=True, exist_ok=True)
    (words.out / "anatomy.json").write_text(json.dumps([one.__dict__ for one in found], indent=1) + "\n")
    for one in found:
        print(f"durability={one.durability}: hop {one.hop_us:.0f} us, acknowledged after {one.acknowledged_us:.0f} us")
        for step, spent in one.steps.items():
            print(f"  {spent:8.1f} us  {step}")


if __name__ == "__main__":
    logging.configure("WARNING")
    if sys.argv[1:2] == ["host"]:
        host(*sys.argv[2:])
    else:
        main()
