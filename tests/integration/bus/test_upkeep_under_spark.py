"""Spark on a table that is kept in shape: a stream misses and repeats nothing, and a batch reads every row."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from deltalake import DeltaTable

from bus.log.checksum import Checksums
from bus.log.consumers import Consumers
from bus.log.health import health
from bus.log.table import DeltaLog
from bus.log.upkeep import Limits, Upkeep
from schemas.tables import AGENT_MESSAGES
from tests.unit.bus.logs import append, message

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def test_a_stream_across_compactions_checkpoints_and_clean_ups(spark: SparkSession, tmp_path: Path) -> None:
    table = DeltaLog(tmp_path / "agent_messages", AGENT_MESSAGES)
    table.create()
    # Files that left go at once: only the stream's own position holds anything back.
    upkeep = Upkeep(table, Consumers(table), Limits(keep_s=0.0, checkpoint_every=10))
    checksums = Checksums(table)
    checksums.start()
    seen: Counter[str] = Counter()
    reached = 0

    def arrived(frame: DataFrame, _: int) -> None:
        nonlocal reached
        for row in frame.select("message_id", "log_version").collect():
            seen[row["message_id"]] += 1
            reached = max(reached, row["log_version"] - 1)

    query = (
        spark.readStream.format("delta")
        .option("startingVersion", "0")
        .option("maxFilesPerTrigger", "20")
        .load(str(table.path))
        .writeStream.foreachBatch(arrived)
        .option("checkpointLocation", str(tmp_path / "checkpoint"))
        .trigger(processingTime="0 seconds")
        .start()
    )
    sent: list[str] = []
    try:
        for _ in range(4):
            for _ in range(25):
                sent.append(f"m{len(sent):04}")
                append(table, message(sent[-1]))
            Consumers(table).note("stream", reached)  # a new one each time, which has said nothing yet
            upkeep.run(force=True)
            checksums.advance()
            end = time.monotonic() + 60
            while len(seen) < len(sent) - 10:
                assert query.exception() is None
                assert time.monotonic() < end
                time.sleep(0.05)
        while len(seen) < len(sent):
            assert query.exception() is None
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        query.stop()
        checksums.stop()
    assert seen == Counter(dict.fromkeys(sent, 1))
    upkeep.run(force=True)
    assert not table.exists(1)
    assert health(table).files < 40
    by_spark = spark.read.format("delta").load(str(table.path))
    assert sorted(row["message_id"] for row in by_spark.select("message_id").collect()) == sent
    found = by_spark.where("message_id = 'm0003'").select("log_version", "date").collect()
    assert [row["log_version"] for row in found] == [4]
    assert DeltaTable(str(table.path)).to_pyarrow_table().num_rows == len(sent)
