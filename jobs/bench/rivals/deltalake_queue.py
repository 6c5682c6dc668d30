"""A Delta table as a queue by `write_deltalake` alone: the sender appends, the worker looks for new versions, receipts likewise."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa

from jobs.bench.contestant import Contestant, Sender, python
from jobs.bench.lane import NoReceipts
from jobs.bench.work import BATCH, Reporter, body

_SCHEMA = pa.schema([("number", pa.int64()), ("body", pa.string())])
#: Seconds between two looks of the worker.
POLL_S = 0.005


def rows(numbers: range) -> pa.Table:
    return pa.table({"number": list(numbers), "body": [json.dumps(body(number)) for number in numbers]}, _SCHEMA)


class AppendingSender(Sender):
    def __init__(self, table: Path) -> None:
        self._table = str(table)

    def open(self) -> None:
        from deltalake import DeltaTable

        # An open table refreshes what it knows; a path would be opened anew for every append.
        self._open = DeltaTable(self._table)

    def one(self, number: int) -> None:
        self._append(range(number, number + 1))

    def many(self, numbers: range) -> None:
        for start in range(numbers.start, numbers.stop, BATCH):
            self._append(range(start, min(start + BATCH, numbers.stop)))

    def _append(self, numbers: range) -> None:
        from deltalake import write_deltalake

        write_deltalake(self._open, rows(numbers), mode="append")


class DeltalakeQueue(Contestant):
    def __init__(self, scratch: Path, burst: int = 20_000) -> None:
        self.name = "write_deltalake"
        self.how = f"a look every {POLL_S * 1000:g} ms"
        self.burst = burst
        self._messages = scratch / "deltalake-messages"
        self._receipts = scratch / "deltalake-receipts"
        self._marked = 0

    def prepare(self) -> None:
        from deltalake import DeltaTable

        for path in (self._messages, self._receipts):
            DeltaTable.create(str(path), _SCHEMA)

    def sender(self) -> Sender:
        return AppendingSender(self._messages)

    def workers(self, reports: Path) -> list[subprocess.Popen[bytes]]:
        return [python("jobs.bench.rivals.deltalake_queue", self._messages, self._receipts, reports)]

    def mark(self) -> None:
        self._marked = self._count()

    def finished(self, count: int, timeout: float) -> float:
        deadline = time.monotonic() + timeout
        while (found := self._count() - self._marked) < count:
            if time.monotonic() > deadline:
                raise NoReceipts(self.name, count - found, timeout)
            time.sleep(0.02)
        return time.time()

    def _count(self) -> int:
        from deltalake import DeltaTable

        return sum(DeltaTable(str(self._receipts)).get_add_actions(flatten=True)["num_records"].to_pylist())


def work(messages: str, receipts: str, pipe: str) -> None:
    """Until standard input is closed."""
    import pyarrow.parquet as pq
    from deltalake import DeltaTable, write_deltalake

    begun = Reporter(pipe)
    closed = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), closed.set()), daemon=True).start()
    table, answers = DeltaTable(messages), DeltaTable(receipts)
    known = set(table.file_uris())
    while not closed.wait(POLL_S):
        before = table.version()
        table.update_incremental()
        if table.version() == before:
            continue
        for file in sorted(set(table.file_uris()) - known):
            known.add(file)
            handled = pq.read_table(file, partitioning=None)
            for number in handled["number"].to_pylist():
                begun(number)
            write_deltalake(answers, handled, mode="append")


if __name__ == "__main__":
    work(*sys.argv[1:])
