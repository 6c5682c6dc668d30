"""A hop: from just before a client's send until the handler begins in another process, on both engines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jobs.bench.race import Effort, Race
from jobs.bench.table import Measurements
from jobs.bench.tailrace_bus import Tailrace

Say = Callable[[str], None]


def measure(scratch: Path, say: Say, out: Measurements, count: int = 60) -> None:
    effort = Effort(rounds=2, hops=count * 2, slow_rounds=1, slow_hops=count, burst_share=0.0)
    tail, streaming = Race(scratch, effort, say).run([Tailrace(scratch), Tailrace(scratch, engine="streaming")])
    out.times("hop between two processes, tail", tail.hops)
    out.times("hop between two processes, Structured Streaming", streaming.hops)
    ratio = streaming.hop_p50 / tail.hop_p50
    out.ratio("streaming hop / tail hop", ratio, "at least 30 x", ratio >= 30)
    out.figure("tail hop p50", f"{tail.hop_p50:.1f} ms", "at most 8 ms", tail.hop_p50 <= 8)
