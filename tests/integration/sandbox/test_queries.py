"""Queries an analyst writes: allowed, and answered as DuckDB answers them on the same tables."""

import math
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from deltalake import DeltaTable

from workers.adapters.sandbox.engine import SparkSandbox
from workers.ports import StatementFailed

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]

SALES = "sum(l_extendedprice * (1 - l_discount))"

QUERIES = [
    f"""SELECT c.c_name, {SALES} AS sales FROM tpch.customer c JOIN tpch.orders o ON o.o_custkey = c.c_custkey
        JOIN tpch.lineitem l ON l.l_orderkey = o.o_orderkey GROUP BY c.c_name ORDER BY sales DESC, c.c_name LIMIT 10""",
    "SELECT count(*) AS n FROM tpch.orders",
    "SELECT n_name FROM tpch.nation WHERE n_regionkey = 3 ORDER BY n_name",
    "SELECT DISTINCT o_orderpriority FROM tpch.orders ORDER BY 1",
    "SELECT o_orderstatus, count(*) AS n, avg(o_totalprice) AS a FROM tpch.orders GROUP BY o_orderstatus ORDER BY 1",
    f"""SELECT r.r_name, {SALES} AS sales FROM tpch.region r JOIN tpch.nation n ON n.n_regionkey = r.r_regionkey
        JOIN tpch.customer c ON c.c_nationkey = n.n_nationkey JOIN tpch.orders o ON o.o_custkey = c.c_custkey
        JOIN tpch.lineitem l ON l.l_orderkey = o.o_orderkey GROUP BY r.r_name ORDER BY sales DESC""",
    "SELECT year(o_orderdate) AS y, count(*) AS n FROM tpch.orders GROUP BY year(o_orderdate) ORDER BY y",
    "SELECT extract(MONTH FROM o_orderdate) AS m, sum(o_totalprice) AS s FROM tpch.orders GROUP BY 1 ORDER BY 1",
    """SELECT date_trunc('month', o_orderdate) AS m, count(*) AS n FROM tpch.orders
        WHERE o_orderdate BETWEEN DATE '1995-01-01' AND DATE '1995-06-30' GROUP BY 1 ORDER BY 1""",
    "SELECT o_custkey, count(*) AS n FROM tpch.orders GROUP BY o_custkey HAVING count(*) > 25 ORDER BY n DESC, 1",
    """SELECT c_name FROM tpch.customer WHERE c_custkey NOT IN (SELECT o_custkey FROM tpch.orders)
        AND c_acctbal > 9900 ORDER BY c_name""",
    """SELECT c_name FROM tpch.customer c WHERE EXISTS (SELECT 1 FROM tpch.orders o WHERE o.o_custkey = c.c_custkey
        AND o.o_totalprice > 400000) ORDER BY c_name""",
    """SELECT c_name, c_acctbal FROM tpch.customer WHERE c_acctbal > (SELECT 2 * avg(c_acctbal) FROM tpch.customer)
        ORDER BY c_acctbal DESC, c_name LIMIT 20""",
    """WITH per_customer AS (SELECT o_custkey AS id, sum(o_totalprice) AS total FROM tpch.orders GROUP BY o_custkey),
        best AS (SELECT * FROM per_customer WHERE total > 3000000)
        SELECT c.c_name, b.total FROM best b JOIN tpch.customer c ON c.c_custkey = b.id ORDER BY b.total DESC, 1""",
    "WITH customer AS (SELECT n_name AS x FROM tpch.nation) SELECT x FROM customer ORDER BY x",
    """SELECT n_name, rank() OVER (PARTITION BY n_regionkey ORDER BY n_name) AS place FROM tpch.nation
        ORDER BY n_regionkey, place""",
    """SELECT o_orderkey, sum(o_totalprice) OVER (PARTITION BY o_custkey ORDER BY o_orderdate, o_orderkey
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS running FROM tpch.orders WHERE o_custkey < 20
        ORDER BY o_orderkey""",
    """SELECT o_custkey, o_orderdate, lag(o_totalprice) OVER w AS before, row_number() OVER w AS n FROM tpch.orders
        WHERE o_custkey < 10 WINDOW w AS (PARTITION BY o_custkey ORDER BY o_orderdate, o_orderkey)
        ORDER BY o_custkey, n""",
    """SELECT * FROM (SELECT c_nationkey, c_name, c_acctbal,
        row_number() OVER (PARTITION BY c_nationkey ORDER BY c_acctbal DESC, c_name) AS place FROM tpch.customer) t
        WHERE place <= 2 ORDER BY c_nationkey, place""",
    """SELECT CASE WHEN o_totalprice > 200000 THEN 'large' WHEN o_totalprice > 100000 THEN 'middle' ELSE 'small' END
        AS size, count(*) AS n FROM tpch.orders GROUP BY 1 ORDER BY 1""",
    """SELECT 'customer' AS kind, count(*) AS n FROM tpch.customer UNION ALL SELECT 'supplier', count(*)
        FROM tpch.supplier ORDER BY kind""",
    "SELECT c_nationkey AS k FROM tpch.customer INTERSECT SELECT s_nationkey FROM tpch.supplier ORDER BY k",
    "SELECT n_nationkey AS k FROM tpch.nation EXCEPT SELECT s_nationkey FROM tpch.supplier ORDER BY k",
    """SELECT n.n_name, count(s.s_suppkey) AS suppliers FROM tpch.nation n LEFT JOIN tpch.supplier s
        ON s.s_nationkey = n.n_nationkey GROUP BY n.n_name ORDER BY 2 DESC, 1""",
    "SELECT p_brand, p_size FROM tpch.part WHERE p_name LIKE '%green%' AND p_size IN (1, 15, 50) ORDER BY 1, 2 LIMIT 30",
    "SELECT upper(substr(n_name, 1, 3)) || '-' || length(n_name) AS code FROM tpch.nation ORDER BY code",
    "SELECT l_shipmode, count(DISTINCT l_orderkey) AS n FROM tpch.lineitem GROUP BY l_shipmode ORDER BY l_shipmode",
    """SELECT l_returnflag, l_linestatus, sum(l_quantity) AS q, avg(CAST(l_discount AS DOUBLE)) AS d, count(*) AS n
        FROM tpch.lineitem WHERE l_shipdate <= DATE '1998-12-01' - INTERVAL '90' DAY GROUP BY 1, 2 ORDER BY 1, 2""",
    f"""SELECT c_mktsegment, CAST({SALES} AS DOUBLE) / (SELECT CAST({SALES} AS DOUBLE) FROM tpch.lineitem) AS share
        FROM tpch.customer JOIN tpch.orders ON o_custkey = c_custkey JOIN tpch.lineitem ON l_orderkey = o_orderkey
        GROUP BY c_mktsegment ORDER BY c_mktsegment""",
    "SELECT n_regionkey, n_name FROM tpch.nation WHERE n_nationkey <> 3 ORDER BY 1 DESC, 2 LIMIT 5 OFFSET 3",
    """SELECT n_regionkey, n_nationkey, count(*) AS n FROM tpch.nation GROUP BY ROLLUP (n_regionkey, n_nationkey)
        ORDER BY n_regionkey NULLS LAST, n_nationkey NULLS LAST""",
    "SELECT count(*) FILTER (WHERE o_orderstatus = 'F') AS f, sum(CAST(o_shippriority AS BIGINT)) AS p FROM tpch.orders",
    "SELECT coalesce(nullif(n_name, 'FRANCE'), 'here') AS name FROM nation WHERE n_regionkey = 3 ORDER BY 1",
    "SELECT a.n_name, b.r_name FROM tpch.nation a CROSS JOIN tpch.region b WHERE a.n_nationkey < 3 ORDER BY 1, 2",
    """SELECT s_name FROM tpch.supplier s, tpch.nation n WHERE s.s_nationkey = n.n_nationkey AND n.n_name = 'GERMANY'
        ORDER BY s_name""",
    """SELECT ps_partkey, min(ps_supplycost) AS cheapest FROM tpch.partsupp GROUP BY ps_partkey
        ORDER BY cheapest, ps_partkey LIMIT 10""",
    "SELECT round(sqrt(abs(c_acctbal)), 2) AS r, floor(c_acctbal) AS f FROM tpch.customer ORDER BY c_custkey LIMIT 20",
    "SELECT max(o_orderdate) AS last, min(o_orderdate) AS first, median(CAST(o_totalprice AS DOUBLE)) AS m FROM tpch.orders",
    "SELECT v, k FROM (VALUES (1, 'a'), (2, 'b')) AS t(k, v) ORDER BY k;",
    "-- how many\nSELECT /* all of them */ count(*) AS `number of rows` FROM TPCH.Nation",
]


@pytest.fixture(scope="session")
def duck(home: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("CREATE SCHEMA tpch")
        for folder in (home / "warehouse" / "tpch").iterdir():
            rows = DeltaTable(str(folder)).to_pyarrow_table()  # noqa: F841  # DuckDB finds it by its name
            connection.execute(f"CREATE TABLE tpch.{folder.name} AS SELECT * FROM rows")
        connection.execute("USE tpch")
        yield connection


@pytest.mark.parametrize("sql", QUERIES, ids=[" ".join(sql.split())[:70] for sql in QUERIES])
async def test_it_is_answered_as_duckdb_answers_it(
    sandbox: SparkSandbox, duck: duckdb.DuckDBPyConnection, sql: str
) -> None:
    dry = await sandbox.dry_run(sql, None)
    done = await sandbox.run(sql, None, "a grant", 2000, digest=dry.digest)

    expected = duck.execute(sql.replace("`", '"')).fetchall()
    assert not done.result.truncated
    assert done.row_count == len(expected)
    assert [[_plain(v) for v in row] for row in done.result.rows] == [[_plain(v) for v in row] for row in expected]


async def test_a_dry_run_says_what_it_saw_and_changes_nothing(sandbox: SparkSandbox, home: Path) -> None:
    before = sorted(home.joinpath("warehouse").rglob("*"))

    dry = await sandbox.dry_run(QUERIES[0], "results.asked")

    assert (dry.statement_class, dry.writes) == ("create", "results.asked")
    assert (dry.effect.version, dry.effect.rows_before, dry.effect.rows_after) == (None, 0, None)
    assert dry.columns == ("c_name", "sales")
    assert dry.table_versions == {"tpch.customer": 0, "tpch.lineitem": 0, "tpch.orders": 0}
    assert "tpch.lineitem" in dry.plan
    assert str(home) not in dry.plan
    assert sorted(home.joinpath("warehouse").rglob("*")) == before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM tpch.missing",
        "SELECT missing FROM tpch.nation",
        "SELECT sum(n_name, 1) FROM tpch.nation",
        "SELECT n",
    ],
)
async def test_what_cannot_be_analysed_fails_with_one_line(sandbox: SparkSandbox, sql: str) -> None:
    with pytest.raises(StatementFailed) as failed:
        await sandbox.dry_run(sql, None)

    assert str(failed.value).startswith("[")
    assert "\n" not in str(failed.value)


async def test_what_fails_while_running_fails_with_one_line(sandbox: SparkSandbox) -> None:
    with pytest.raises(StatementFailed, match="DIVIDE_BY_ZERO"):
        await sandbox.run("SELECT max(1 / n_nationkey) AS x FROM tpch.nation", None, "a grant", 10)


async def test_values_are_ready_for_json(sandbox: SparkSandbox) -> None:
    done = await sandbox.run(
        "SELECT 1.50BD AS d, DATE '2026-01-02' AS day, TIMESTAMP '2026-01-02 03:04:05' AS t, NULL AS n, true AS b,"
        " CAST('NaN' AS DOUBLE) AS nan, X'00FF' AS bytes",
        None, "a grant", 1,
    )  # fmt: skip

    assert done.result.rows == (("1.50", "2026-01-02", "2026-01-02T03:04:05", None, True, "nan", "AP8="),)


def _plain(value: Any) -> Any:
    """Numbers to nine digits: the engines round averages of decimals apart. Times at midnight are days."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value.removesuffix("T00:00:00")
    if isinstance(value, bool | int | float | Decimal):
        number = float(value)
        return 0.0 if number == 0 else round(number, 8 - math.floor(math.log10(abs(number))))
    if isinstance(value, datetime | date):
        return value.isoformat().removesuffix("T00:00:00")
    return value
