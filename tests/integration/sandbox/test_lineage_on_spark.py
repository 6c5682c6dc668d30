"""Lineage against the engine: whatever columns Spark scans, the text alone was enough to know of them."""

from __future__ import annotations

import re

import pytest

from schemas.payloads import Code, CodeDryRun
from workers.adapters.lakehouse import LakehouseColumns
from workers.adapters.sandbox.engine import SparkSandbox
from workers.governance.lineage import Lineage
from workers.ports import DryRun, StatementRefused

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]

#: Of the sample every column says by its beginning whose it is.
TABLES = {"c": "tpch.customer", "o": "tpch.orders", "n": "tpch.nation"}

STATEMENTS = [
    "SELECT c_name FROM tpch.customer",
    "SELECT count(*) FROM customer",
    "SELECT * FROM nation",
    "SELECT n.* FROM nation n JOIN customer c ON c.c_nationkey = n.n_nationkey",
    "SELECT n FROM (SELECT struct(*) AS n FROM nation)",
    "SELECT struct(c.*).c_phone FROM customer c",
    "SELECT named_struct('a', c_phone).a FROM customer",
    "SELECT b FROM nation AS t(a, b, c, d)",
    "SELECT t.b FROM (SELECT * FROM nation) t(a, b, c, d)",
    "WITH t(a, b, c, d) AS (SELECT * FROM nation) SELECT b FROM t",
    "WITH t AS (TABLE nation) SELECT t.n_name FROM t",
    "TABLE nation",
    "FROM nation",
    "FROM customer |> WHERE c_acctbal > 0 |> AGGREGATE count(*) AS k GROUP BY c_mktsegment",
    "FROM customer |> EXTEND c_phone AS p |> SELECT p",
    "SELECT 1 FROM customer NATURAL JOIN nation",
    "SELECT 1 FROM customer a JOIN customer b USING (c_phone)",
    "SELECT * EXCEPT (n_comment) FROM nation",
    "SELECT * FROM nation UNPIVOT (v FOR k IN (n_name, n_comment))",
    "SELECT * FROM (SELECT n_regionkey, n_name FROM nation) PIVOT (max(n_name) FOR n_regionkey IN (1, 2))",
    "SELECT transform(array(1), x -> c_phone) FROM customer",
    "SELECT (SELECT max(c_phone) FROM customer) FROM nation",
    "SELECT n_name FROM nation WHERE EXISTS (SELECT 1 FROM customer WHERE c_nationkey = n_nationkey AND c_acctbal > 0)",
    "SELECT o_orderkey FROM orders WHERE o_custkey IN (SELECT c_custkey FROM customer WHERE c_phone LIKE '1%')",
    "SELECT c_name FROM customer ORDER BY c_phone LIMIT 3",
    "SELECT max(c_name) FROM customer GROUP BY c_mktsegment HAVING max(c_phone) > '1'",
    "SELECT count(*) FROM customer GROUP BY GROUPING SETS ((c_mktsegment), (c_nationkey))",
    "SELECT count(*) FROM customer GROUP BY ALL",
    "SELECT c_mktsegment, count(*) FROM customer GROUP BY 1 ORDER BY ALL",
    "SELECT row_number() OVER w FROM customer WINDOW w AS (PARTITION BY c_mktsegment ORDER BY c_phone)",
    "SELECT c_name FROM customer QUALIFY row_number() OVER (PARTITION BY c_nationkey ORDER BY c_acctbal) = 1",
    "SELECT sum(c_acctbal) FILTER (WHERE c_phone > '1') FROM customer",
    "SELECT CASE WHEN c_acctbal > 0 THEN c_phone ELSE c_address END AS x FROM customer",
    "SELECT `c_phone` AS `c_name` FROM `tpch`.`customer`",
    "SELECT C_PHONE FROM TPCH.CUSTOMER",
    "SELECT customer.c_phone, tpch.customer.c_name, spark_catalog.tpch.customer.c_address FROM tpch.customer",
    "SELECT c_name FROM customer UNION ALL SELECT n_name FROM nation",
    "(SELECT c_name FROM customer) EXCEPT (SELECT c_phone FROM customer)",
    "SELECT x.p FROM (SELECT c_phone AS p, c_custkey AS k FROM customer) x JOIN orders o ON o.o_custkey = x.k",
    "SELECT * FROM customer c, LATERAL (SELECT n_name FROM nation WHERE n_nationkey = c.c_nationkey)",
    "SELECT c_phone AS a, a || 'x' AS b FROM customer",
    "SELECT orders.c_phone FROM customer AS orders",
    "SELECT c.c_phone FROM nation c0, customer c WHERE c0.n_nationkey = c.c_nationkey",
    "SELECT c_phone::int, c_acctbal :: string FROM customer",
    "SELECT extract(YEAR FROM o_orderdate) FROM orders",
    "SELECT o_orderdate + INTERVAL 1 DAY, date_format(o_orderdate, 'y') FROM orders",
    "SELECT substring(c_phone FROM 1 FOR 2), trim(BOTH 'x' FROM c_address) FROM customer",
    "SELECT 'c_phone' FROM customer",
    "SELECT any_value(c_phone), collect_list(c_name), percentile_approx(c_acctbal, 0.5) FROM customer",
]


async def test_the_text_tells_every_column_that_spark_scans(sandbox: SparkSandbox, home) -> None:
    lineage = Lineage(LakehouseColumns(home / "warehouse"))
    missed, tried = {}, 0
    for sql in STATEMENTS:
        try:
            found = await sandbox.dry_run(sql, None)
        except StatementRefused:
            continue  # the engine's guard knows fewer forms than its parser
        tried += 1
        reads = lineage.reads(Code(language="sql", text=sql), as_payload(found))
        assert set(reads) == set(found.table_versions), sql
        unseen = {f"{table}.{name}" for table, name in scanned(found.plan) if not reads[table] & {name, "*"}}
        if unseen:
            missed[sql] = unseen
    assert missed == {}
    assert tried > 30


def as_payload(found: DryRun) -> CodeDryRun:
    """Without the plan: it would give the answer away."""
    return CodeDryRun(
        code_sha256="",
        statement_class="read",
        columns=[],
        table_versions=dict(found.table_versions),
        plan="",
        digest=found.digest,
    )


def scanned(plan: str) -> set[tuple[str, str]]:
    """Tables and columns of every scan in Spark's physical plan."""
    fields = [
        name
        for schema in re.findall(r"ReadSchema: struct<(.*?)>$", plan, re.M)
        for name in re.findall(r"(\w+):", schema)
    ]
    return {(TABLES[name[0]], name) for name in fields}
