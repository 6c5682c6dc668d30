"""The Structured Streaming feed: one query a host serves all its agents; the tail beside it only decides and orders.

Rows from outside the host are delivered by the stream alone. Rows the host just committed for its own agents are handed
over at once, unless an earlier row of that conversation for that agent is known and not yet delivered.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from bus.base import Arrival, Bus, Deliver
from bus.log import rows as codec
from bus.log.checksum import Checksums
from bus.log.table import DeltaLog
from bus.streaming.spark_table import SparkTable, commits
from bus.tail import open_messages
from schemas.envelope import Message

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

log = structlog.get_logger(__name__)

#: Files one micro-batch reads at most: the backpressure of the stream.
MAX_FILES_PER_TRIGGER = 1000
#: Seconds until a stream that could not begin is tried again.
RETRY_AFTER = 1.0


class StreamingFeed:
    """Reads `table` by Structured Streaming. `spark` is called once, in `start`, from the feed's caller."""

    def __init__(self, bus: Bus, table: DeltaLog | None, checkpoints: Path, spark: Callable[[], SparkSession]) -> None:
        self._bus = bus
        self._table = table
        self._checkpoints = checkpoints
        #: Where Spark writes the table, it sees to its own.
        self._checksums = None if table is None else Checksums(table)
        self._spark = spark
        self._query: Any = None
        self._generation = 0
        self._stopping = False
        self._agents: frozenset[str] = frozenset()
        self._deliver: Deliver = lambda rows: None
        self._leave: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        #: (agent, conversation) -> messages known from the log and not yet delivered by the stream, and their versions
        self._pending: dict[tuple[str, str], dict[str, int]] = {}
        #: Messages for the host's agents that the stream brought, and those handed over at once.
        self.streamed = 0
        self.handed_over = 0
        self._reached = -1

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self, agents: Sequence[str], deliver: Deliver) -> None:
        self._agents, self._deliver = frozenset(agents), deliver
        shutil.rmtree(self._checkpoints, ignore_errors=True)
        spark = self._spark()
        if self._checksums is not None:
            self._checksums.start()
        self._leave = self._bus.subscribe(self._arrived)
        self._begin(spark)
        threading.Thread(target=self._supervise, args=(spark,), name="stream-supervisor", daemon=True).start()

    def stop(self) -> None:
        self._stopping = True
        self._leave()
        if self._checksums is not None:
            self._checksums.stop()
        if self._query is not None:
            self._query.stop()

    @property
    def position(self) -> int:
        """The stream asks again for the entry it has come to, and may have read only a part of it."""
        return self._bus.state.version if self._reached < 0 else self._reached

    @property
    def input_rows(self) -> int:
        """Rows the running query reports to have read, by its own progress."""
        return sum(progress["numInputRows"] for progress in self._query.recentProgress)

    def _begin(self, spark: SparkSession) -> None:
        """A new generation: the open set first, then the stream from the version it was taken at. No snapshot is read."""
        self._generation += 1
        version = self._bus.catch_up()  # not under our lock: the bus's thread holds its own when it takes ours
        with self._lock:
            if waiting := open_messages(self._bus, sorted(self._agents)):
                self._deliver(waiting)
            later = {key: {m: v for m, v in rows.items() if v > version} for key, rows in self._pending.items()}
            self._pending = {key: rows for key, rows in later.items() if rows}
        self._reached = version
        self._query = (
            self._stream(spark, version)
            .writeStream.foreachBatch(self._batch)
            .option("checkpointLocation", str(self._checkpoints / f"{self._generation}"))
            .trigger(processingTime="0 seconds")
            .start()
        )

    def _stream(self, spark: SparkSession, version: int) -> DataFrame:
        """Rows committed at `version` or later."""
        assert self._table is not None  # a feed without one says itself where its rows come from
        return (
            spark.readStream.format("delta")
            .option("startingVersion", str(version))
            # Days that went to the archive are no news.
            .option("ignoreDeletes", "true")
            .option("maxFilesPerTrigger", str(MAX_FILES_PER_TRIGGER))
            .load(str(self._table.path))
        )

    def _supervise(self, spark: SparkSession) -> None:
        """A query that failed or was overtaken by the log's clean-up is begun anew; nothing depends on its checkpoint."""
        while not self._stopping:
            try:
                self._query.awaitTermination()
            except Exception as error:
                if not self._stopping:
                    log.warning("stream.failed", error=str(error)[:500], generation=self._generation)
            while not self._stopping:
                try:
                    self._begin(spark)
                    break
                except Exception:
                    log.exception("stream.cannot_begin", generation=self._generation)
                    time.sleep(RETRY_AFTER)
        self._query.stop()  # `stop` may have come while a generation began

    # --- rows --------------------------------------------------------------------------------------------------------

    def _arrived(self, arrival: Arrival) -> None:
        """From the bus: what is known. Only our own rows may be delivered from here."""
        if self._checksums is not None:
            self._checksums.advance()
        at_once: list[Message] = []
        with self._lock:
            for row in arrival.rows:
                for agent in self._owing(row):
                    waiting = self._pending.setdefault((agent, row.correlation_id), {})
                    if arrival.own and not waiting:
                        at_once.append(row)
                        del self._pending[(agent, row.correlation_id)]
                    else:
                        waiting[row.message_id] = row.log_version
            self.handed_over += len(at_once)
            # Under the lock, here and below: nothing may come between taking a row off what is pending and delivering it.
            if at_once:
                self._deliver(at_once)

    def _owing(self, row: Message) -> list[str]:
        """The host's agents that a message waits for. Not by who subscribes now: that was decided where it stands in the log."""
        return [agent for agent in self._agents if (row.message_id, agent) in self._bus.state.open]

    def _rows(self, frame: DataFrame) -> list[Message]:
        """Messages of a micro-batch, in log order."""
        return codec.from_arrow(frame.toArrow())

    def _batch(self, frame: DataFrame, _: int) -> None:
        """From the stream: rows in no particular order; the log's order is put back before anybody sees them."""
        rows = self._rows(frame)
        if not rows:
            return
        if rows[-1].log_version > self._bus.state.version:
            self._bus.catch_up()  # a handler must not see a row before the state does
        mine: list[Message] = []
        with self._lock:
            for row in rows:
                for agent in self._agents:
                    waiting = self._pending.get((agent, row.correlation_id))
                    if waiting is not None:
                        waiting.pop(row.message_id, None)
                        if not waiting:
                            del self._pending[(agent, row.correlation_id)]
                owing = self._owing(row)
                if owing:
                    mine.append(row)
                if owing or row.to_agent in self._agents:  # also what was settled before it came this way
                    self.streamed += 1
            if mine:
                self._deliver(mine)
        self._reached = max(self._reached, rows[-1].log_version - 1)


class ChangeFeed(StreamingFeed):
    """The same over a table that Spark writes: the stream reads the change feed, which says the version of each row.

    On Databricks `checkpoints` is a folder of a volume; what it holds may be lost, as everywhere.
    """

    def __init__(self, bus: Bus, table: SparkTable, checkpoints: Path) -> None:
        super().__init__(bus, None, checkpoints, lambda: table.spark)
        self._name = table.name

    def _stream(self, spark: SparkSession, version: int) -> DataFrame:
        return (
            spark.readStream.option("readChangeFeed", "true")
            .option("startingVersion", str(version))
            .option("maxFilesPerTrigger", str(MAX_FILES_PER_TRIGGER))
            .table(self._name)
        )

    def _rows(self, frame: DataFrame) -> list[Message]:
        return [row for _, rows in commits(frame.toArrow()) for row in rows]
