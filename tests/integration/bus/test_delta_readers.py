"""The bus's tables are Delta tables: every reader reads the same rows, and no other writer writes one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from chispa import assert_df_equality
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from bus.log import rows as codec
from bus.log.bus import LogBus
from bus.log.table import DeltaLog
from bus.projections.projector import Projector
from bus.projections.tables import PROJECTIONS, projections
from schemas.columns import TableSchema
from schemas.envelope import Message
from schemas.payloads import ApprovalRequested, AuditRecorded, Code, ExecutionClaimed, InstanceChanged, Payload
from schemas.tables import AGENT_MESSAGES, TABLES

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def message(n: int, **envelope: Any) -> Message:
    return Message(
        **{
            "message_id": f"m{n}",
            "correlation_id": f"c{n % 3}",
            "from_agent": "user:eli",
            "to_agent": "A",
            "message_type": "request",
            "kind": "Ping",
            "content": f'{{"text":"ü \\n {n}"}}',
            "timestamp": 1_767_225_600_123_456 + n,
            "not_before": 1_767_225_600_000_001 if n % 2 else None,
            "principal": "eli",
            **envelope,
        }
    )


def event(n: int, sender: str, payload: Payload) -> Message:
    return message(
        n, from_agent=sender, to_agent="*", message_type="event", kind=payload.kind(), content=payload.model_dump_json()
    )


def events() -> list[Message]:
    """At least one row for every projection."""
    asked = ApprovalRequested(
        approval_id="a",
        requester="eli",
        question="q",
        code=Code(language="sql", text="SELECT 1"),
        target=None,
        digest="d",
        plan="p",
        rule="r",
        expires_at=1_767_225_600_000_000,
    )
    claimed = ExecutionClaimed(
        grant_id="g", requester="eli", question="q", code="c", target="t", approved_by="ada", instance="i"
    )
    started = InstanceChanged(agent="A", instance="A-1", host="h", engine="tail", step="started", kinds=["Ping"])
    return [
        event(100, "GovernanceAgent", asked),
        event(101, "ExecutionAgent", claimed),
        event(102, "A", started),
        event(103, "A", AuditRecorded(action="x", decision="done", details={"a": [1, "ü"]})),
    ]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of several commits, one of them large, and its projections."""
    folder = tmp_path_factory.mktemp("tables")
    log = open_log(folder, AGENT_MESSAGES)
    log.create()
    for schema, _ in PROJECTIONS:
        open_log(folder, schema).create()
    bus = LogBus(log)
    for n in range(5):
        bus.submit([message(n)]).result(30)
    bus.submit([message(n) for n in range(1000, 2500)]).result(30)
    bus.submit(events()).result(30)
    projector = Projector(bus, log, projections(lambda name: open_log(folder, TABLES[name])))
    projector.start()
    projector.stop()
    bus.close()
    return folder


def open_log(folder: Path, schema: TableSchema) -> DeltaLog:
    return DeltaLog(folder / schema.name, schema)


NAMES = [AGENT_MESSAGES.name, *(schema.name for schema, _ in PROJECTIONS)]


def normal(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def comparable(table: pa.Table) -> list[tuple[Any, ...]]:
    names = sorted(table.column_names)
    found = [tuple(normal(row[name]) for name in names) for row in table.select(names).to_pylist()]
    return sorted(found, key=repr)


@pytest.mark.parametrize("name", NAMES)
def test_deltalake_spark_and_duckdb_read_the_same_rows(home: Path, spark: Any, name: str) -> None:
    import duckdb

    path, schema = home / name, TABLES[name]
    by_deltalake = DeltaTable(str(path)).to_pyarrow_table()
    assert by_deltalake.num_rows >= 1
    assert by_deltalake.schema.names == schema.arrow.names
    assert by_deltalake.cast(schema.arrow).schema == schema.arrow
    by_spark = spark.read.format("delta").load(str(path))
    assert [(f.name, f.dataType.simpleString()) for f in by_spark.schema] == spark_types(spark, schema)
    assert comparable(by_spark.toArrow().cast(schema.arrow)) == comparable(by_deltalake.cast(schema.arrow))
    bus_table = DeltaTable(str(path)).to_pyarrow_dataset()
    with duckdb.connect() as connection:
        connection.register("bus_table", bus_table)
        connection.execute("SET TimeZone = 'UTC'")
        by_duckdb = connection.sql("SELECT * FROM bus_table").to_arrow_table()
    assert comparable(by_duckdb.cast(schema.arrow)) == comparable(by_deltalake.cast(schema.arrow))


def spark_types(spark: Any, schema: TableSchema) -> list[tuple[str, str]]:
    return [(f.name, f.dataType.simpleString()) for f in spark.createDataFrame([], schema.spark_ddl).schema]


def test_what_spark_reads_is_what_was_sent(home: Path, spark: Any) -> None:
    found = spark.read.format("delta").load(str(home / AGENT_MESSAGES.name)).where("message_id in ('m0','m1')")
    names = ["message_id", "content", "priority", "log_version", "seq", "timestamp", "not_before"]
    spark_ddl = "message_id string, content string, priority int, log_version long, seq int, t long, n long"
    expected = spark.createDataFrame(
        [
            ("m0", message(0).content, 5, 1, 0, message(0).timestamp, None),
            ("m1", message(1).content, 5, 2, 0, message(1).timestamp, message(1).not_before),
        ],
        spark_ddl,
    )
    micros = found.selectExpr(*names[:5], "unix_micros(timestamp) t", "unix_micros(not_before) n")
    assert_df_equality(micros, expected, ignore_row_order=True, ignore_nullable=True, ignore_metadata=True)


FILTERS = [
    "kind = 'Ping'",
    "from_agent = 'user:eli'",
    "log_version >= 2",
    "seq = 0",
    "correlation_id = 'c1'",
    "priority = 5",
]


@pytest.mark.parametrize("condition", [*FILTERS, "not_before is null", "message_id = 'm3'", "kind <> 'Ping'"])
def test_a_filter_finds_the_same_rows_in_every_reader(home: Path, spark: Any, condition: str) -> None:
    """Readers leave out files by the entries' statistics; they must not leave out rows."""
    import duckdb

    path = str(home / AGENT_MESSAGES.name)
    everything = DeltaTable(path).to_pyarrow_table()
    bus_table = DeltaTable(path).to_pyarrow_dataset()
    query = f"SELECT message_id FROM {{}} WHERE {condition}"  # conditions of this module
    with duckdb.connect() as connection:
        connection.register("everything", everything).register("bus_table", bus_table)
        expected = sorted(row[0] for row in connection.execute(query.format("everything")).fetchall())
        pushed = sorted(row[0] for row in connection.execute(query.format("bus_table")).fetchall())
    spark.read.format("delta").load(path).createOrReplaceTempView("in_spark")
    assert expected
    assert pushed == expected
    assert sorted(row[0] for row in spark.sql(query.format("in_spark")).collect()) == expected


# --- nobody else writes -----------------------------------------------------------------------------------------------


def everything_in(path: Path) -> dict[str, tuple[int, int]]:
    """Log entries, and the data files they name, and what would change if those did.

    Not part of the table: checksums, which are hints, and the data files that Spark writes before it is refused.
    """
    files = [*(path / "_delta_log").glob("*.json"), *(path / "_delta_log").glob("*.parquet")]
    files += [path / uri.split(f"/{path.name}/", 1)[1] for uri in DeltaTable(str(path)).file_uris()]
    status = {str(file): file.stat() for file in files}
    return {name: (one.st_size, one.st_mtime_ns) for name, one in status.items()}


def one_row(path: Path) -> pa.Table:
    return DeltaTable(str(path)).to_pyarrow_table().slice(0, 1)


DELTALAKE: dict[str, Callable[[Path], Any]] = {
    "append": lambda path: write_deltalake(str(path), one_row(path), mode="append"),
    "overwrite": lambda path: write_deltalake(str(path), one_row(path), mode="overwrite"),
    "delete": lambda path: DeltaTable(str(path)).delete("message_id = 'm0'"),
    "delete all": lambda path: DeltaTable(str(path)).delete(),
    "update": lambda path: DeltaTable(str(path)).update(updates={"principal": "'ada'"}, predicate="message_id = 'm0'"),
    "compact": lambda path: DeltaTable(str(path)).optimize.compact(),
    "restore": lambda path: DeltaTable(str(path)).restore(1),
    "merge": lambda path: (
        DeltaTable(str(path))
        .merge(one_row(path), "s.message_id = t.message_id", source_alias="s", target_alias="t")
        .when_matched_delete()
        .execute()
    ),
    "properties": lambda path: DeltaTable(str(path)).alter.set_table_properties({"delta.appendOnly": "false"}),
    "txn": lambda path: write_deltalake(
        str(path), one_row(path), mode="append", commit_properties=CommitProperties(custom_metadata={"x": "y"})
    ),
}


@pytest.mark.parametrize("how", DELTALAKE)
def test_deltalake_refuses_to_write(home: Path, how: str) -> None:
    path = home / AGENT_MESSAGES.name
    before = everything_in(path)
    with pytest.raises(DeltaError):
        DELTALAKE[how](path)
    assert everything_in(path) == before


SPARK = {
    "insert": "INSERT INTO {table} SELECT * FROM {table} LIMIT 1",
    "overwrite": "INSERT OVERWRITE {table} SELECT * FROM {table} LIMIT 1",
    "delete": "DELETE FROM {table} WHERE message_id = 'm0'",
    "update": "UPDATE {table} SET principal = 'ada' WHERE message_id = 'm0'",
    "merge": "MERGE INTO {table} t USING (SELECT 'm0' AS i) s ON t.message_id = s.i WHEN MATCHED THEN DELETE",
    "optimize": "OPTIMIZE {table}",
    "vacuum": "VACUUM {table}",
    "restore": "RESTORE TABLE {table} TO VERSION AS OF 1",
    "properties": "ALTER TABLE {table} SET TBLPROPERTIES ('delta.appendOnly' = 'false')",
    "drop feature": "ALTER TABLE {table} DROP FEATURE tailraceLog",
    "add column": "ALTER TABLE {table} ADD COLUMNS (x INT)",
}


@pytest.mark.parametrize("how", SPARK)
def test_spark_refuses_to_write(home: Path, spark: Any, how: str) -> None:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    path = home / AGENT_MESSAGES.name
    before = everything_in(path)
    with pytest.raises((PySparkException, Py4JError)):
        spark.sql(SPARK[how].format(table=f"delta.`{path}`")).collect()
    assert everything_in(path) == before


def test_spark_refuses_to_append_a_data_frame(home: Path, spark: Any) -> None:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    path = home / AGENT_MESSAGES.name
    before = everything_in(path)
    frame = spark.read.format("delta").load(str(path)).limit(1)
    with pytest.raises((PySparkException, Py4JError)):
        frame.write.format("delta").mode("append").save(str(path))
    assert everything_in(path) == before


# --- upkeep by others -------------------------------------------------------------------------------------------------


def test_after_a_checkpoint_by_deltalake_the_bus_goes_on(tmp_path: Path, spark: Any) -> None:
    log = open_log(tmp_path, AGENT_MESSAGES)
    log.create()
    running = LogBus(log)
    for n in range(12):
        running.submit([message(n)]).result(30)
    DeltaTable(str(log.path)).create_checkpoint()
    running.submit([message(12)]).result(30)
    opened = LogBus(open_log(tmp_path, AGENT_MESSAGES))
    assert len(opened.state.open) == 13
    assert opened.submit([message(13)]).result(30) == 14
    assert running.catch_up() == 14
    DeltaTable(str(log.path)).cleanup_metadata()
    assert running.submit([message(14)]).result(30) == 15
    for bus in (running, opened):
        bus.close()
    assert spark.read.format("delta").load(str(log.path)).count() == 15
    assert [m.message_id for m in codec.from_arrow(log.scan()[0])] == [f"m{n}" for n in range(15)]
