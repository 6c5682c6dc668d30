"""A queue in a PostgreSQL table as pgmq keeps one: SELECT .. FOR UPDATE SKIP LOCKED, archived in the same transaction, NOTIFY."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

from jobs.bench.contestant import Contestant, Sender, python
from jobs.bench.lane import NoReceipts
from jobs.bench.servers import Missing, Postgres
from jobs.bench.work import BATCH, Reporter, body

TABLES = """
CREATE TABLE IF NOT EXISTS queue (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body jsonb NOT NULL);
CREATE TABLE IF NOT EXISTS archive (id bigint PRIMARY KEY, body jsonb NOT NULL, handled_at timestamptz DEFAULT now());
"""
#: Taken, archived and handled in one transaction: what is in the archive was handled, exactly once.
TAKE = """
WITH taken AS (
    DELETE FROM queue WHERE id IN (SELECT id FROM queue ORDER BY id FOR UPDATE SKIP LOCKED LIMIT %s) RETURNING id, body
)
INSERT INTO archive (id, body) SELECT id, body FROM taken RETURNING body
"""


class InsertingSender(Sender):
    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def open(self) -> None:
        import psycopg

        self._line = psycopg.connect(self._dsn, autocommit=True)

    def one(self, number: int) -> None:
        self._put(range(number, number + 1))

    def many(self, numbers: range) -> None:
        for start in range(numbers.start, numbers.stop, BATCH):
            self._put(range(start, min(start + BATCH, numbers.stop)))

    def _put(self, numbers: range) -> None:
        from psycopg.types.json import Jsonb

        with self._line.transaction(), self._line.cursor() as cursor:
            cursor.executemany("INSERT INTO queue (body) VALUES (%s)", [(Jsonb(body(number)),) for number in numbers])
            cursor.execute("NOTIFY queue")


class PostgresQueue(Contestant):
    """`batch`: messages a transaction takes at most."""

    def __init__(self, server: Postgres, batch: int = 100, burst: int = 25_000) -> None:
        self.name = "SKIP LOCKED"
        self.how = f"{batch} messages a transaction"
        self.burst = burst
        self._server, self._batch = server, batch

    def prepare(self) -> None:
        try:
            import psycopg
        except ImportError:
            raise Missing("psycopg is not installed: pip install 'tailrace[bench]'") from None
        with psycopg.connect(self._server.dsn, autocommit=True) as line:
            line.execute(TABLES)

    def sender(self) -> Sender:
        return InsertingSender(self._server.dsn)

    def workers(self, reports: Path) -> list[subprocess.Popen[bytes]]:
        return [python("jobs.bench.rivals.postgres_queue", self._server.dsn, self._batch, reports)]

    def servers(self) -> list[int]:
        return [self._server.pid]

    def finished(self, count: int, timeout: float) -> float:
        import psycopg

        deadline = time.monotonic() + timeout
        with psycopg.connect(self._server.dsn, autocommit=True) as line:
            while line.execute("SELECT 1 FROM queue LIMIT 1").fetchone():
                if time.monotonic() > deadline:
                    raise NoReceipts(self.name, count, timeout)
                time.sleep(0.005)
            return time.time()


def work(dsn: str, batch: int, pipe: str) -> None:
    """Until standard input is closed."""
    import psycopg

    begun = Reporter(pipe)
    closed = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), closed.set()), daemon=True).start()
    with psycopg.connect(dsn, autocommit=True) as listening, psycopg.connect(dsn, autocommit=True) as line:
        listening.execute("LISTEN queue")
        while not closed.is_set():
            with line.transaction():
                taken = line.execute(TAKE, (batch,)).fetchall()
                for (message,) in taken:
                    begun(message["number"])
            if not taken:
                for _ in listening.notifies(timeout=0.2, stop_after=1):
                    pass


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]), sys.argv[3])
