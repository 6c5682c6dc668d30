"""What a run leaves behind: one table version with the grant in it, once, from the very versions that were approved."""

import asyncio
import json
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from workers.adapters.sandbox.engine import SparkSandbox
from workers.adapters.sandbox.history import Outcome
from workers.ports import StatementFailed, StatementRefused

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]

BEST = """SELECT c.c_name, sum(l_extendedprice * (1 - l_discount)) AS sales FROM tpch.customer c
    JOIN tpch.orders o ON o.o_custkey = c.c_custkey JOIN tpch.lineitem l ON l.l_orderkey = o.o_orderkey
    GROUP BY c.c_name ORDER BY sales DESC, c.c_name LIMIT 10"""


def table(home: Path, name: str) -> DeltaTable:
    return DeltaTable(str(home / "warehouse" / name.replace(".", "/")))


async def test_the_result_is_saved_in_order_with_its_grant(sandbox: SparkSandbox, home: Path) -> None:
    dry = await sandbox.dry_run(BEST, "results.best")
    done = await sandbox.run(BEST, "results.best", "grant-1", 5, digest=dry.digest)

    saved = table(home, "results.best")
    assert (done.table, done.table_version, done.row_count, done.result.truncated) == ("results.best", 0, 10, True)
    assert [row[0] for row in done.result.rows] == saved.to_pyarrow_table()["c_name"].to_pylist()[:5]
    assert json.loads(saved.history(1)[0]["userMetadata"])["grant_id"] == "grant-1"
    assert sandbox.outcome_of("grant-1", "results.best") == Outcome("results.best", 0)
    assert sandbox.outcome_of("grant-2", "results.best") is None
    assert sandbox.outcome_of("grant-1", "results.never") is None


async def test_another_grant_replaces_it_and_its_columns(sandbox: SparkSandbox, home: Path) -> None:
    await sandbox.run("SELECT 1 AS a", "results.replaced", "grant-1", 5)
    done = await sandbox.run("SELECT 'x' AS b, 2 AS c", "results.replaced", "grant-2", 5)

    assert done.table_version == 1
    assert table(home, "results.replaced").to_pyarrow_table().to_pylist() == [{"b": "x", "c": 2}]
    assert sandbox.outcome_of("grant-1", "results.replaced") == Outcome("results.replaced", 0)
    again = await sandbox.run("SELECT b FROM results.replaced", None, "grant-3", 5)
    assert again.result.rows == (("x",),)


async def test_a_grant_writes_once(sandbox: SparkSandbox, home: Path) -> None:
    await sandbox.run("SELECT 1 AS a", "results.once", "grant-1", 5)

    with pytest.raises(StatementRefused) as refused:
        await sandbox.run("SELECT 2 AS a", "results.once", "grant-1", 5)

    assert refused.value.rule == "grant.used"
    assert table(home, "results.once").version() == 0


async def test_a_large_result_is_saved_whole_and_shown_in_part(sandbox: SparkSandbox, home: Path) -> None:
    sql = "SELECT o_orderkey, o_totalprice FROM tpch.orders ORDER BY o_totalprice DESC, o_orderkey"

    done = await sandbox.run(sql, "results.large", "grant-1", 3)

    prices = table(home, "results.large").to_pyarrow_table()["o_totalprice"].to_pylist()
    assert done.row_count == len(prices) == 15000
    assert done.result.truncated
    assert [row[1] for row in done.result.rows] == [str(price) for price in sorted(prices, reverse=True)[:3]]


async def test_an_empty_result_is_a_table_too(sandbox: SparkSandbox, home: Path) -> None:
    done = await sandbox.run("SELECT n_name FROM tpch.nation WHERE n_nationkey < 0", "results.none", "grant-1", 3)

    assert (done.row_count, done.result.rows, done.result.truncated) == (0, (), False)
    assert table(home, "results.none").to_pyarrow_table().num_rows == 0


async def test_a_result_without_target_changes_nothing(sandbox: SparkSandbox, home: Path) -> None:
    before = sorted(home.joinpath("warehouse").rglob("*"))

    done = await sandbox.run("SELECT n_name FROM tpch.nation ORDER BY n_name LIMIT 2", None, "grant-1", 2)

    assert (done.row_count, done.table, done.table_version, done.reference) == (2, None, None, None)
    assert done.result.rows == (("ALGERIA",), ("ARGENTINA",))
    assert sorted(home.joinpath("warehouse").rglob("*")) == before


@pytest.mark.parametrize(
    ("target", "rule"),
    [
        ("tpch.nation", "target.protected"),
        ("tpch.lineitem", "target.protected"),
        ("results.foreign", "target.protected"),
        ("results.folder", "target.protected"),
        ("results.linked", "target.protected"),
        ("other.x", "target.schema"),
        ("results", "target.name"),
        ("results.Best", "target.name"),
        ("results.a.b", "target.name"),
        ("results.../keys", "target.name"),
        ("results.x; DROP TABLE tpch.nation", "target.name"),
        ("delta.`/x`", "target.name"),
        ("", "target.name"),
    ],
)
async def test_a_target_that_may_not_be_written(sandbox: SparkSandbox, home: Path, target: str, rule: str) -> None:
    results = home / "warehouse" / "results"
    if not (results / "foreign").exists():
        write_deltalake(str(results / "foreign"), pa.table({"a": [1]}))
        (results / "folder").mkdir()
        (results / "folder" / "file").write_text("x")
        (results / "linked").symlink_to(home / "keys")

    for ask in (sandbox.dry_run("SELECT 1 AS a", target), sandbox.run("SELECT 1 AS a", target, "grant-9", 5)):
        with pytest.raises(StatementRefused) as refused:
            await ask
        assert refused.value.rule == rule


@pytest.mark.parametrize("columns", ["1 AS a, 2 AS A", "count(*)", "NULL AS a", "INTERVAL 3 MONTHS AS a"])
async def test_columns_that_no_table_can_hold_are_refused_before_approval(sandbox: SparkSandbox, columns: str) -> None:
    with pytest.raises(StatementRefused) as refused:
        await sandbox.dry_run(f"SELECT {columns}", "results.columns")

    assert refused.value.rule == "target.columns"


async def test_the_digest_is_the_same_in_another_process_and_changes_with_what_it_covers(
    sandbox: SparkSandbox, home: Path
) -> None:
    write_deltalake(str(home / "warehouse" / "results" / "moving"), pa.table({"a": [1]}))
    sql = "SELECT sum(a) AS a FROM results.moving WHERE a IN (SELECT n_nationkey FROM tpch.nation)"
    first = await sandbox.dry_run(sql, "results.sum")
    again = await sandbox.dry_run(sql, "results.sum")
    await sandbox.close()
    elsewhere = await sandbox.dry_run(sql, "results.sum")
    other_target = await sandbox.dry_run(sql, "results.total")
    other_code = await sandbox.dry_run(sql + " ", "results.sum")
    write_deltalake(str(home / "warehouse" / "results" / "moving"), pa.table({"a": [2]}), mode="append")
    other_version = await sandbox.dry_run(sql, "results.sum")

    assert first.digest == again.digest == elsewhere.digest
    assert len({first.digest, other_target.digest, other_code.digest, other_version.digest}) == 4
    assert other_version.table_versions == {"results.moving": 1, "tpch.nation": 0}


async def test_a_run_of_what_was_not_approved_is_refused(sandbox: SparkSandbox, home: Path) -> None:
    write_deltalake(str(home / "warehouse" / "results" / "moved"), pa.table({"a": [1]}))
    dry = await sandbox.dry_run("SELECT a FROM results.moved", "results.kept")
    write_deltalake(str(home / "warehouse" / "results" / "moved"), pa.table({"a": [2]}), mode="append")

    with pytest.raises(StatementRefused) as refused:
        await sandbox.run("SELECT a FROM results.moved", "results.kept", "grant-1", 5, digest=dry.digest)

    assert refused.value.rule == "grant.dry_run_changed"
    assert not (home / "warehouse" / "results" / "kept").exists()


async def test_tables_that_come_change_and_go_are_noticed(sandbox: SparkSandbox, home: Path) -> None:
    folder = home / "warehouse" / "results" / "guest"
    with pytest.raises(StatementFailed, match="TABLE_OR_VIEW_NOT_FOUND"):
        await sandbox.dry_run("SELECT * FROM results.guest", None)
    write_deltalake(str(folder), pa.table({"a": [1]}))
    assert (await sandbox.run("SELECT * FROM results.guest", None, "g", 5)).result.rows == ((1,),)
    write_deltalake(str(folder), pa.table({"b": ["x"]}), mode="overwrite", schema_mode="overwrite")
    assert (await sandbox.run("SELECT * FROM results.guest", None, "g", 5)).result == (
        await sandbox.run("SELECT b FROM results.guest", None, "g", 5)
    ).result
    for file in sorted(folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    folder.rmdir()
    with pytest.raises(StatementFailed, match="TABLE_OR_VIEW_NOT_FOUND"):
        await sandbox.dry_run("SELECT * FROM results.guest", None)


async def test_requests_wait_for_each_other(sandbox: SparkSandbox) -> None:
    asked = [sandbox.run(f"SELECT {n} AS n", None, "g", 1) for n in range(5)]

    assert [done.result.rows[0][0] for done in await asyncio.gather(*asked)] == [0, 1, 2, 3, 4]
