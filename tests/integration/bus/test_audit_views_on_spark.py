"""The views for auditors run on Spark as they stand, and say what DuckDB says."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import duckdb
import pytest
from deltalake import DeltaTable

from bus import views
from tests.integration.bus.test_views_on_spark import comparable
from tests.unit.audit.recorded import make_home, record

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def test_spark_and_duckdb_say_the_same_to_auditors(tmp_path: Path, spark: Any) -> None:
    system = make_home(tmp_path / "home")
    asyncio.run(record(system))
    table = tmp_path / "home/tables/agent_messages"
    needed = ("placed_messages", "valid_messages", *views.AUDIT_NAMES)
    session = spark.newSession()
    session.conf.set("spark.sql.shuffle.partitions", "1")
    session.sql(f"CREATE TEMPORARY VIEW agent_messages AS SELECT * FROM delta.`{table}`")
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("agent_messages", DeltaTable(str(table)).to_pyarrow_table())
        for name, on_spark, on_duckdb in zip(
            needed, views.statements(names=needed), views.statements("duckdb", names=needed), strict=True
        ):
            session.sql(on_spark)
            connection.execute(on_duckdb)
            rows = session.table(name).toArrow()
            # Kept, as whoever has much history keeps it: Spark analyses a view anew for each view that stands on it.
            session.createDataFrame(rows).createOrReplaceTempView(name)
            by_duckdb = comparable(connection.sql(f"SELECT * FROM {name}").to_arrow_table())
            assert comparable(rows) == by_duckdb, name
            assert by_duckdb, name
