"""Instances of one agent share its load: `python -m tests.bench.instances [--messages N] [--wait-ms MS]`.

Each instance is a process with one worker, which waits for something outside as a model or a database would have it wait.
Numbers are ratios to one instance in the same run; on a machine with few cores they end where the processors do.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import structlog

from bus.log.bus import LogBus
from bus.log.table import DeltaLog
from bus.tail import TailFeed
from bus.trust import TrustEverybody
from schemas.tables import AGENT_MESSAGES
from tests.contract.harness import Ping, Pinger, message, read_rows
from workers.runtime.base import Context, Outgoing, Received
from workers.runtime.clock import SystemClock
from workers.runtime.host import Host

COUNTS = (1, 2, 4)
PATIENCE_S = 300.0


class Waiting(Pinger):
    """Takes its time, and none of the processor's."""

    name = "Pinger"

    def __init__(self, wait_s: float) -> None:
        super().__init__()
        self._wait = wait_s

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        await asyncio.sleep(self._wait)
        return await super().handle(message, context)


async def serve(folder: Path, wait_s: float) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))
    bus = LogBus(DeltaLog(folder, AGENT_MESSAGES))
    worker = Waiting(wait_s)
    host = Host([worker], bus, TailFeed(bus), TrustEverybody(), SystemClock(), [])
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await host.start()
    os.write(1, b"ready\n")
    await stop.wait()
    await host.stop()
    os.write(1, f"{len(worker.ended)}\n".encode())


def measure(count: int, messages: int, conversations: int, wait_ms: float) -> tuple[float, float, list[int]]:
    """Handled messages a second, milliseconds of processor for each (start included), and what each instance handled."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "agent_messages"
        table = DeltaLog(folder, AGENT_MESSAGES)
        table.create()
        bus = LogBus(table)
        command = [sys.executable, "-m", "tests.bench.instances", "--serve", str(folder), "--wait-ms", str(wait_ms)]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(count)]
        try:
            for process in running:
                assert process.stdout is not None
                assert process.stdout.readline() == b"ready\n"
            time.sleep(1.0)  # until every one has answered every other
            batch = [message(Ping(n=n), conversation=f"c{n % conversations}") for n in range(messages)]
            began = time.perf_counter()
            bus.submit(batch).result()
            while bus.state.open:
                assert time.perf_counter() - began < PATIENCE_S
                time.sleep(0.002)
            elapsed = time.perf_counter() - began
        finally:
            for process in running:
                process.terminate()
            shares = [int(process.communicate()[0] or 0) for process in running]
            bus.close()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        receipts = Counter(row["causation_id"] for row in read_rows(folder) if row["message_type"] == "receipt")
        assert receipts == dict.fromkeys((one.message_id for one in batch), 1)
        return messages / elapsed, used * 1000 / messages, shares


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--messages", type=int, default=2000)
    arguments.add_argument("--conversations", type=int, default=400)
    arguments.add_argument("--wait-ms", type=float, default=100.0)
    arguments.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.serve:
        asyncio.run(serve(chosen.serve, chosen.wait_ms / 1000))
        return
    print(f"{chosen.messages} messages in {chosen.conversations} conversations, {chosen.wait_ms:g} ms each")
    print(f"{'instances':>9}  {'handled/s':>9}  {'ratio':>5}  {'twice':>5}  {'cpu ms':>6}  each handled")
    first = 0.0
    for count in COUNTS:
        rate, cpu, shares = measure(count, chosen.messages, chosen.conversations, chosen.wait_ms)
        first = first or rate
        twice = sum(shares) - chosen.messages
        print(
            f"{count:>9}  {rate:>9.0f}  {rate / first:>5.2f}  {twice:>5}  {cpu:>6.2f}  {', '.join(map(str, shares))}",
            flush=True,
        )


if __name__ == "__main__":
    main()
