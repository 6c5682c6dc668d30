"""A hop: from the sender's append in one process to the handler in another, on both engines."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bus.client import TailraceClient
from bus.log.bus import LogBus
from bus.log.table import DeltaLog
from jobs.bench.echo import Ping
from jobs.bench.table import Measurements
from schemas.tables import AGENT_MESSAGES

Say = Callable[[str], None]


def measure(scratch: Path, say: Say, out: Measurements, count: int = 60) -> None:
    say("hop between two processes, tail")
    tail = _hops(scratch / "hop-tail", "tail", count * 4)
    say("hop between two processes, Structured Streaming")
    streaming = _hops(scratch / "hop-streaming", "streaming", count)
    tail_p50 = out.times("hop between two processes, tail", tail)
    streaming_p50 = out.times("hop between two processes, Structured Streaming", streaming)
    out.ratio("streaming hop / tail hop", streaming_p50 / tail_p50, "at least 30 x", streaming_p50 >= 30 * tail_p50)
    out.figure("tail hop p50", f"{tail_p50:.1f} ms", "at most 8 ms", tail_p50 <= 8)


def _hops(path: Path, engine: str, count: int) -> list[float]:
    """Milliseconds from just before the append until the other process's handler runs; same clock, same machine."""
    table = DeltaLog(path, AGENT_MESSAGES)
    table.create()
    command = [sys.executable, "-m", "jobs.bench.echo", str(path), engine]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as echo:
        assert echo.stdout is not None
        assert echo.stdin is not None
        if echo.stdout.readline().strip() != b"ready":
            raise RuntimeError(f"the echo process did not start on the {engine} engine")
        with TailraceClient(user="bench", bus=LogBus(table, follow_only=True)) as client:
            found = [_hop(client) for _ in range(count + 5)]
        echo.stdin.close()
    return found[5:]


def _hop(client: TailraceClient) -> float:
    time.sleep(0.002)  # one at a time: the other side has settled
    started = time.time_ns()
    answer = client.request("Echo", Ping(), timeout=60)
    handled = json.loads(answer.content)["received_ns"]
    return (handled - started) / 1e6
