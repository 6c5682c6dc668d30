"""Statements that change a table: the dry run shows what the run then does, in one version, and only to its target."""

import json
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from workers.adapters.sandbox.engine import SparkSandbox
from workers.adapters.sandbox.restoring import RestoreEngine
from workers.ports import Outcome, Statement, StatementFailed, StatementRefused

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]

TABLE = "results.life"

#: Statement, its class, what it adds, changes and removes, and the table afterwards by DuckDB over the table before (`t`).
LIFE = [
    (
        "INSERT INTO results.life SELECT n_nationkey, n_name, 1.5 FROM tpch.nation WHERE n_nationkey BETWEEN 4 AND 6",
        "write", (3, 0, 0),
        "SELECT * FROM t UNION ALL SELECT * FROM (VALUES (4, 'EGYPT', 1.5), (5, 'ETHIOPIA', 1.5), (6, 'FRANCE', 1.5))",
    ),
    ("UPDATE results.life SET v = lower(v), d = d + 1 WHERE k % 2 = 0", "write", (0, 4, 0),
     "SELECT k, CASE WHEN k % 2 = 0 THEN lower(v) ELSE v END, CASE WHEN k % 2 = 0 THEN d + 1 ELSE d END FROM t"),
    (
        """MERGE INTO results.life t USING (SELECT n_nationkey AS k, n_name AS v FROM tpch.nation WHERE n_nationkey > 4) s
        ON t.k = s.k WHEN MATCHED AND s.k = 5 THEN DELETE WHEN MATCHED THEN UPDATE SET v = s.v
        WHEN NOT MATCHED AND s.k > 23 THEN INSERT (k, v, d) VALUES (s.k, s.v, 0)""",
        "delete", (1, 1, 1),
        """SELECT k, CASE k WHEN 6 THEN 'FRANCE' ELSE v END, d FROM t WHERE k <> 5
        UNION ALL SELECT 24, 'UNITED STATES', 0""",
    ),
    ("DELETE FROM results.life l WHERE l.k < 2", "delete", (0, 0, 2), "SELECT * FROM t WHERE k >= 2"),
    ("INSERT OVERWRITE results.life SELECT * FROM results.life WHERE k > 3", "write", (0, 0, 2),
     "SELECT * FROM t WHERE k > 3"),
    ("ALTER TABLE results.life ADD COLUMNS (note STRING COMMENT 'why')", "alter", (0, 0, 0),
     "SELECT *, NULL::VARCHAR AS note FROM t"),
    ("TRUNCATE TABLE results.life", "delete", (0, 0, 3), "SELECT * FROM t WHERE false"),
]  # fmt: skip


def read(home: Path, name: str, version: int | None = None) -> pa.Table:
    return DeltaTable(str(home / "warehouse" / name.replace(".", "/")), version=version).to_pyarrow_table()


def versions(home: Path) -> dict[str, int]:
    return {
        f"{log.parent.parent.name}.{log.parent.name}": DeltaTable(str(log.parent)).version()
        for log in home.glob("warehouse/*/*/_delta_log")
        if log.parent.name != "pointing"
    }


def state_of(home: Path) -> set[tuple[str, int]]:
    return {(str(file), file.stat().st_mtime_ns) for file in (home / "warehouse").rglob("*") if file.is_file()}


@pytest.fixture
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


@pytest.mark.timeout(900)
async def test_a_tables_life(sandbox: SparkSandbox, home: Path, duck: duckdb.DuckDBPyConnection) -> None:
    """Each step on what the one before left: the dry run tells exactly what the run does, and changes nothing itself."""
    await sandbox.run(
        f"CREATE TABLE {TABLE} AS SELECT n_nationkey AS k, n_name AS v, CAST(0.5 AS DECIMAL(12,2)) AS d "
        "FROM tpch.nation WHERE n_nationkey < 4",
        None, "life-0", 5,
    )  # fmt: skip
    for number, (sql, kind, counts, expected) in enumerate(LIFE, start=1):
        before, held = versions(home), state_of(home)
        t = read(home, TABLE)
        duck.register("t", t)

        dry = await sandbox.dry_run(sql, None)
        assert state_of(home) == held, sql
        done = await sandbox.run(sql, TABLE, f"life-{number}", 5, digest=dry.digest)

        found = dry.effect
        assert (dry.statement_class, dry.writes) == (kind, TABLE), sql
        assert (found.added, found.changed, found.removed) == counts, sql
        assert (found.version, found.rows_before) == (number - 1, t.num_rows)
        assert dry.table_versions[TABLE] == number - 1
        assert (done.table_version, done.table_version_before, done.row_count) == (number, number - 1, sum(counts)), sql
        assert done.result.rows == (counts,)
        after = read(home, TABLE)
        assert found.rows_after == after.num_rows
        duck.register("after", after)
        differs = f"(({expected}) EXCEPT ALL FROM after) UNION ALL (FROM after EXCEPT ALL ({expected}))"
        assert duck.sql(differs).fetchall() == [], sql
        assert versions(home) == before | {TABLE: number}
        mark = json.loads(DeltaTable(str(home / "warehouse" / "results" / "life")).history(1)[0]["userMetadata"])
        assert mark["grant_id"] == f"life-{number}"
        assert sandbox.outcome_of(f"life-{number}", TABLE) == Outcome(TABLE, number)

    await _dropped_and_back(sandbox, home, len(LIFE))


async def _dropped_and_back(sandbox: SparkSandbox, home: Path, version: int) -> None:
    dry = await sandbox.dry_run(f"DROP TABLE {TABLE}", TABLE)
    done = await sandbox.run(f"DROP TABLE {TABLE}", TABLE, "life-drop", 5, digest=dry.digest)

    assert dry.statement_class == "drop"
    assert TABLE not in versions(home)
    assert sandbox.outcome_of("life-drop", TABLE) == Outcome(TABLE, version + 1) == Outcome(TABLE, done.table_version)
    with pytest.raises(StatementFailed, match="TABLE_OR_VIEW_NOT_FOUND"):
        await sandbox.dry_run(f"SELECT * FROM {TABLE}", None)

    undo = Statement("restore", f"{TABLE} TO VERSION 1", TABLE)
    back = await RestoreEngine(home).run(undo, "life-back", 5)
    assert back.table_version == version + 2
    assert (await sandbox.run(f"SELECT count(*) AS n FROM {TABLE}", None, "life-read", 5)).result.rows == ((7,),)


async def test_a_target_that_moved_since_its_dry_run_is_not_written(sandbox: SparkSandbox, home: Path) -> None:
    path = home / "warehouse" / "results" / "moves"
    write_deltalake(str(path), pa.table({"a": [1, 2]}))
    sql = "DELETE FROM results.moves WHERE a = 1"
    dry = await sandbox.dry_run(sql, None)
    write_deltalake(str(path), pa.table({"a": [1]}), mode="append")

    with pytest.raises(StatementRefused) as refused:
        await sandbox.run(sql, "results.moves", "grant-1", 5, digest=dry.digest)

    assert refused.value.rule == "grant.dry_run_changed"
    assert sorted(read(home, "results.moves")["a"].to_pylist()) == [1, 1, 2]


async def test_saving_over_a_table_shows_what_differs(sandbox: SparkSandbox, home: Path) -> None:
    await sandbox.run("SELECT n_nationkey AS k FROM tpch.nation WHERE n_nationkey < 5", "results.over", "grant-1", 5)
    held = state_of(home)

    dry = await sandbox.dry_run("SELECT n_nationkey AS k FROM tpch.nation WHERE n_nationkey < 4", "results.over")

    assert state_of(home) == held
    assert (dry.statement_class, dry.effect.added, dry.effect.removed) == ("write", 0, 1)
    assert dry.effect.sample_removed.rows == [[4]]
    assert (dry.estimated_rows, dry.estimated_bytes > 0) == (30, True)


async def test_a_result_that_is_too_large_to_show_is_kept_whole(sandbox: SparkSandbox, home: Path) -> None:
    done = await sandbox.run("SELECT n_name, n_nationkey FROM tpch.nation ORDER BY 1", None, "grant-large", 2)

    assert (done.row_count, len(done.result.rows), done.result.truncated) == (25, 2, True)
    kept = duckdb.read_parquet(str(home / done.reference)).fetchall()
    assert (kept[0], len(kept)) == (("ALGERIA", 0), 25)
    with pytest.raises(StatementRefused) as refused:
        await sandbox.dry_run("SELECT * FROM `.results`.`grant-large`", None)
    assert refused.value.rule == "sql.relation"


@pytest.mark.parametrize(
    ("sql", "target", "rule"),
    [
        ("DELETE FROM results.moves", "results.other", "target.mismatch"),
        ("CREATE TABLE results.taken AS SELECT 1 AS a", None, "target.exists"),
        ("CREATE OR REPLACE TABLE results.made AS SELECT 1 AS a", None, "target.protected"),
    ],
)
async def test_what_does_not_fit_its_target(
    sandbox: SparkSandbox, home: Path, sql: str, target: str | None, rule: str
) -> None:
    if rule == "target.exists":
        await sandbox.run("SELECT 1 AS a", "results.taken", "grant-1", 5)
    if rule == "target.protected":
        write_deltalake(str(home / "warehouse" / "results" / "made"), pa.table({"a": [1]}))

    with pytest.raises(StatementRefused) as refused:
        await sandbox.dry_run(sql, target)

    assert refused.value.rule == rule
