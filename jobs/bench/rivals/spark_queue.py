"""A Delta table as a queue by Spark alone: the sender appends, a Structured Streaming query handles and appends receipts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from jobs.bench.contestant import Contestant, Sender, python
from jobs.bench.lane import NoReceipts
from jobs.bench.work import BATCH, Reporter, body

_SCHEMA = "number bigint, body string"


class SparkSender(Sender):
    def __init__(self, table: Path) -> None:
        self._table = str(table)

    def open(self) -> None:
        from bus.streaming.session import spark_session

        self._spark = spark_session("bench-sender")

    def one(self, number: int) -> None:
        self._append(range(number, number + 1))

    def many(self, numbers: range) -> None:
        for start in range(numbers.start, numbers.stop, BATCH):
            self._append(range(start, min(start + BATCH, numbers.stop)))

    def _append(self, numbers: range) -> None:
        found = [(number, json.dumps(body(number))) for number in numbers]
        self._spark.createDataFrame(found, _SCHEMA).coalesce(1).write.format("delta").mode("append").save(self._table)


class SparkQueue(Contestant):
    slow = True
    patience_s = 180.0

    def __init__(self, scratch: Path, burst: int = 1500) -> None:
        self.name = "Spark + Structured Streaming"
        self.how = "trigger 0 s"
        self.burst = burst
        self._scratch = scratch
        self._messages = scratch / "spark-messages"
        self._receipts = scratch / "spark-receipts"
        self._marked = 0
        self._round = 0

    def prepare(self) -> None:
        from deltalake import DeltaTable

        from jobs.bench.rivals.deltalake_queue import _SCHEMA as COLUMNS

        for path in (self._messages, self._receipts):
            DeltaTable.create(str(path), COLUMNS)

    def sender(self) -> Sender:
        return SparkSender(self._messages)

    def workers(self, reports: Path) -> list[subprocess.Popen[bytes]]:
        self._round += 1
        checkpoint = self._scratch / f"spark-checkpoint-{self._round}"
        words = (self._messages, self._receipts, checkpoint, reports)
        return [python("jobs.bench.rivals.spark_queue", *words)]

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


def work(messages: str, receipts: str, checkpoint: str, pipe: str) -> None:
    """Until standard input is closed."""
    from deltalake import DeltaTable

    from bus.streaming.session import spark_session

    begun = Reporter(pipe)

    def handle(frame: Any, _: int) -> None:
        found = frame.toArrow()
        if found.num_rows:
            for number in found["number"].to_pylist():
                begun(number)
            frame.write.format("delta").mode("append").save(receipts)

    version = DeltaTable(messages).version()
    spark = spark_session(
        "bench-worker",
        conf={
            # What makes our own stream quick is given to this one as well.
            "spark.sql.streaming.checkpoint.fileChecksum.enabled": "false",
            "spark.sql.streaming.minBatchesToRetain": "2",
            "spark.sql.streaming.metricsEnabled": "false",
        },
    )
    query = (
        spark.readStream.format("delta")
        .option("startingVersion", str(version))
        .load(messages)
        .writeStream.foreachBatch(handle)
        .option("checkpointLocation", checkpoint)
        .trigger(processingTime="0 seconds")
        .start()
    )
    sys.stdin.read()
    query.stop()


if __name__ == "__main__":
    work(*sys.argv[1:])
