"""The views run on Spark as they stand, over tables of both writers, and say the same numbers as DuckDB and the fold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from hypothesis import Phase, given, settings

from bus import views
from bus.fold import valid_rows
from bus.log import rows as codec
from bus.log.table import DeltaLog
from bus.streaming.spark_table import SparkTable
from schemas.envelope import Message
from schemas.tables import AGENT_MESSAGES
from tests.integration.bus.spark_world import SparkWorld
from tests.unit.bus.histories import histories
from tests.unit.bus.logs import append, make_log

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def long_history() -> list[list[Message]]:
    """Many random histories, one behind the other; the same in every run."""
    collected: list[list[list[Message]]] = []

    @given(commits=histories(40))
    @settings(max_examples=60, derandomize=True, deadline=None, database=None, phases=[Phase.generate])
    def collect(commits: list[list[Message]]) -> None:
        if len(commits) >= 12 and len(collected) < 5:
            collected.append(commits)

    collect()
    return [[_renamed(m, f"{n}-") for m in commit] for n, commits in enumerate(collected) for commit in commits]


def _renamed(m: Message, prefix: str) -> Message:
    names = ("message_id", "correlation_id", "causation_id", "handling_id")
    content = m.content
    for key in ("grant_id", "instance"):
        content = content.replace(f'"{key}":"', f'"{key}":"{prefix}')
    renamed = {name: prefix + value for name in names if (value := getattr(m, name)) is not None}
    return m.model_copy(update={**renamed, "content": content})


def by_spark(spark: Any, begin: str, writer: views.Writer, names: Sequence[str]) -> dict[str, list[Any]]:
    """What each view says in a session of its own, for which the statement `begin` makes agent_messages known."""
    session = spark.newSession()
    session.sql(begin)
    session.conf.set("spark.sql.shuffle.partitions", "1")
    found = {}
    for name, statement in zip(views.NAMES, views.statements("spark", writer), strict=True):
        if name not in names and name != "placed_messages":
            continue
        session.sql(statement)
        if name not in names:
            continue  # the place of rows that Spark wrote is known to the table alone: it cannot be kept elsewhere
        rows = session.table(name).toArrow()
        found[name] = comparable(rows)
        # Kept, as whoever has much history keeps it: Spark analyses a view anew for each view that stands on it.
        session.createDataFrame(rows).createOrReplaceTempView(name)
    return found


def comparable(table: Any) -> list[Any]:
    names = sorted(table.column_names)
    return sorted((tuple(normal(row[name]) for name in names) for row in table.to_pylist()), key=repr)


def normal(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    return value.isoformat() if hasattr(value, "isoformat") else int(value) if isinstance(value, bool) else value


def test_spark_and_duckdb_say_the_same_of_a_log_that_our_bus_wrote(tmp_path: Path, spark: Any) -> None:
    import duckdb

    log: DeltaLog = make_log(tmp_path / "agent_messages")
    for commit in long_history():
        append(log, *commit)
    table = DeltaTable(str(tmp_path / "agent_messages"))
    table.create_checkpoint()
    on_spark = by_spark(
        spark,
        f"CREATE TEMPORARY VIEW agent_messages AS SELECT * FROM delta.`{tmp_path}/agent_messages`",
        "log",
        views.NAMES,
    )
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("agent_messages", table.to_pyarrow_dataset())
        for statement in views.statements("duckdb"):
            connection.execute(statement)
        for name in views.NAMES:
            by_duckdb = comparable(connection.sql(f"SELECT * FROM {name}").to_arrow_table())  # names of ours
            assert on_spark[name] == by_duckdb, name
            assert on_spark[name], name
    found, _ = log.scan()
    everything = codec.from_arrow(found)
    valid = valid_rows(everything)
    assert len(valid) < len(everything)
    assert len(on_spark["valid_messages"]) == len(valid)


def test_a_table_that_spark_wrote_knows_the_place_of_its_rows(tmp_path: Path, spark: Any) -> None:
    world = SparkWorld(tmp_path, spark)
    table: SparkTable = world.table()
    history = long_history()
    # Ten commits of ours become one of Spark's: fewer appends, the same races within and between them.
    for number, begin in enumerate(range(0, 30, 10)):
        table.append([m for commit in history[begin : begin + 10] for m in commit], "test", number)
    found = [row for _, rows in table.scan() for row in rows]
    valid = valid_rows(found)
    assert len({row.log_version for row in found}) == 3
    (told,) = by_spark(spark, f"USE {world.database}", "spark", ["valid_messages"]).values()
    names = sorted([*AGENT_MESSAGES.arrow.names, "place"])
    positions = [(row[names.index("log_version")], row[names.index("seq")]) for row in told]
    assert sorted(positions) == [m.position for m in valid]
    assert len(valid) < len(found)
