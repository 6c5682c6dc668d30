"""procrastinate on PostgreSQL: its own worker with LISTEN/NOTIFY, jobs enqueued in batches, finished jobs kept as receipts."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from jobs.bench.contestant import Contestant, Sender, python
from jobs.bench.lane import NoReceipts
from jobs.bench.servers import Missing, Postgres
from jobs.bench.work import BATCH, Reporter, body


def make_app(connector: Any, begun: Any = lambda _: None) -> Any:
    from procrastinate import App

    app = App(connector=connector)

    @app.task(name="ping", queue="bench")
    async def ping(number: int, **_: Any) -> None:
        begun(number)

    return app


class DeferringSender(Sender):
    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def open(self) -> None:
        from procrastinate import SyncPsycopgConnector

        app = make_app(SyncPsycopgConnector(conninfo=self._dsn))
        app.open()
        self._task = app.tasks["ping"]

    def one(self, number: int) -> None:
        self._task.defer(**body(number))

    def many(self, numbers: range) -> None:
        for start in range(numbers.start, numbers.stop, BATCH):
            self._task.batch_defer(*[body(number) for number in range(start, min(start + BATCH, numbers.stop))])


class Procrastinate(Contestant):
    """`concurrency` jobs at once in each of `processes` workers."""

    def __init__(self, server: Postgres, concurrency: int = 10, processes: int = 1, burst: int = 800) -> None:
        self.name = "procrastinate"
        self.how = f"concurrency {concurrency}, {processes} worker{'s' if processes > 1 else ''}"
        self.burst = burst
        self._server, self._concurrency, self._processes = server, concurrency, processes

    def prepare(self) -> None:
        try:
            from procrastinate import SyncPsycopgConnector
        except ImportError:
            raise Missing("procrastinate is not installed: pip install 'tailrace[bench]'") from None
        app = make_app(SyncPsycopgConnector(conninfo=self._server.dsn))
        with app.open():
            if not app.check_connection():
                app.schema_manager.apply_schema()

    def sender(self) -> Sender:
        return DeferringSender(self._server.dsn)

    def workers(self, reports: Path) -> list[subprocess.Popen[bytes]]:
        words = (self._server.dsn, self._concurrency, reports)
        return [python("jobs.bench.rivals.procrastinate_queue", *words) for _ in range(self._processes)]

    def servers(self) -> list[int]:
        return [self._server.pid]

    def finished(self, count: int, timeout: float) -> float:
        import psycopg

        deadline = time.monotonic() + timeout
        with psycopg.connect(self._server.dsn, autocommit=True) as line:
            while line.execute("SELECT 1 FROM procrastinate_jobs WHERE status IN ('todo', 'doing') LIMIT 1").fetchone():
                if time.monotonic() > deadline:
                    raise NoReceipts(self.name, count, timeout)
                time.sleep(0.005)
            return time.time()


async def work(dsn: str, concurrency: int, pipe: str) -> None:
    """Until standard input is closed."""
    from procrastinate import PsycopgConnector

    # As its documentation asks: at least as many connections as jobs at once, and one for LISTEN.
    connector = PsycopgConnector(conninfo=dsn, min_size=min(concurrency, 10) + 1, max_size=concurrency + 4)
    app = make_app(connector, Reporter(pipe))
    async with app.open_async():
        working = asyncio.create_task(
            app.run_worker_async(concurrency=concurrency, listen_notify=True, install_signal_handlers=False)
        )
        closed = asyncio.Event()
        loop = asyncio.get_running_loop()
        threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(closed.set)), daemon=True).start()
        await closed.wait()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
