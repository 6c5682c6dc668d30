"""A bus over a table that Spark writes, as a world of the contract: one JVM, a session of its own for every bus."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from bus import views
from bus.base import Bus, Feed
from bus.fold import State
from bus.streaming.spark_bus import SparkBus
from bus.streaming.spark_table import SparkTable
from bus.tail import TailFeed
from tests.contract.harness import _Worlds
from workers.runtime.base import Worker
from workers.runtime.host import Host
from workers.runtime.leases import Timing

_databases = itertools.count(1)


class SparkWorld(_Worlds):
    """`rows` are those that count, by deltalake's change feed and the views in DuckDB: no code that the bus runs."""

    patience = 90.0

    def __init__(self, folder: Path, spark: Any) -> None:
        super().__init__()
        self.spark = spark
        self.path = folder / "agent_messages"
        self.database = f"world{next(_databases)}"
        spark.sql(f"CREATE DATABASE {self.database} LOCATION '{folder}'")
        # A checkpoint costs seconds and proves nothing here.
        spark.conf.set("spark.databricks.delta.properties.defaults.checkpointInterval", "1000")
        self.table().create()

    @property
    def name(self) -> str:
        return f"spark_catalog.{self.database}.agent_messages"

    def table(self, kind: Callable[..., SparkTable] = SparkTable) -> SparkTable:
        return kind(self.spark.newSession(), self.name, first_wait_s=0.01)

    def bus(self, state: State | None = None, kind: Callable[..., SparkTable] = SparkTable, **how: Any) -> Any:
        bus: Bus = SparkBus(self.table(kind), state=state, **how)
        return self._opened(bus)

    async def host(self, *workers: Worker, **how: Any) -> Host:
        """With long leases: a renewal is an append, and on a busy machine it may take longer than a short lease."""
        return await super().host(*workers, **{"timing": Timing(duration_s=300), **how})

    def feed(self, bus: Bus) -> Feed:
        return TailFeed(bus)

    def raw(self) -> list[dict[str, Any]]:
        """Every row, whether it counts or not."""
        found = changes(self.path).to_pylist()
        return sorted(found, key=lambda row: (row["log_version"], row["seq"]))

    def rows(self) -> list[dict[str, Any]]:
        import duckdb

        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.register("agent_messages", changes(self.path))
            for statement in views.statements("duckdb"):
                connection.execute(statement)
            return connection.sql("SELECT * FROM valid_messages ORDER BY place").to_arrow_table().to_pylist()


def changes(path: Path) -> pa.Table:
    """The table's rows with the versions they were committed at, by deltalake."""
    from deltalake import DeltaTable

    found = pa.table(DeltaTable(str(path)).load_cdf(starting_version=0).read_all())
    place = found.schema.get_field_index("log_version")
    found = found.set_column(place, "log_version", found.column("_commit_version"))
    return found.drop_columns(["_change_type", "_commit_version", "_commit_timestamp"])
