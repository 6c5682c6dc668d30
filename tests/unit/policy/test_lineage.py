"""Lineage: what is read is never less than what the statement could see, however it is said."""

from __future__ import annotations

import time

import pytest

from schemas.payloads import Code, CodeDryRun
from workers.governance.lineage import Lineage

COLUMNS = {
    "tpch.customer": ["c_custkey", "c_name", "c_phone", "c_address"],
    "tpch.orders": ["o_orderkey", "o_custkey", "o_comment"],
    "results.x": ["a", "b"],
}
CUSTOMER, ORDERS, RESULT = COLUMNS


def reads(
    sql: str,
    *tables: str,
    writes: str | None = None,
    plan: str = "",
    language: str = "sql",
    declared: tuple[str, ...] = (),
) -> dict[str, set[str]]:
    dry_run = CodeDryRun(
        code_sha256="",
        statement_class="read" if writes is None else "write",
        columns=[],
        table_versions=dict.fromkeys(tables, 0),
        plan=plan,
        digest="",
        writes=writes,
    )
    lineage = Lineage(lambda table, _: COLUMNS.get(table))
    return {
        table: set(names)
        for table, names in lineage.reads(Code(language=language, text=sql), dry_run, declared).items()
    }


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("SELECT c_name FROM tpch.customer", {"c_name"}),
        ("SELECT C_Name FROM TPCH.Customer", {"c_name"}),
        ("SELECT count(*) FROM customer", set()),
        ("SELECT count(c_custkey) AS n FROM customer c WHERE c.c_name LIKE 'c_phone%'", {"c_custkey", "c_name"}),
        ("SELECT c_name AS c_phone FROM customer", {"c_name"}),
        ("WITH x AS (SELECT c_name AS p FROM tpch.customer) SELECT p FROM x ORDER BY p", {"c_name"}),
        ("SELECT row_number() OVER (PARTITION BY c_custkey ORDER BY c_name) FROM customer", {"c_custkey", "c_name"}),
    ],
)
def test_what_is_plainly_named(sql: str, columns: set[str]) -> None:
    assert reads(sql, CUSTOMER) == {CUSTOMER: columns}


def test_columns_go_to_the_table_that_has_them() -> None:
    sql = "SELECT c.c_name, o_comment FROM tpch.customer c JOIN tpch.orders o ON c.c_custkey = o.o_custkey"
    assert reads(sql, CUSTOMER, ORDERS) == {CUSTOMER: {"c_custkey", "c_name"}, ORDERS: {"o_custkey", "o_comment"}}
    assert reads("SELECT c.* FROM customer c, orders o", CUSTOMER, ORDERS) == {CUSTOMER: {"*"}, ORDERS: set()}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT c_phone FROM customer",
        "SELECT `c_phone` FROM customer",
        "SELECT tpch.customer.c_phone FROM tpch.customer",
        "SELECT spark_catalog.tpch.customer.c_phone FROM tpch.customer",
        "SELECT c_phone.x FROM customer",
        "SELECT c_phone:a.b FROM customer",
        "SELECT 1 FROM customer WHERE c_phone LIKE '1%'",
        "SELECT c_name FROM customer ORDER BY c_phone",
        "SELECT max(c_name) FROM customer GROUP BY GROUPING SETS ((c_phone))",
        "SELECT 1 FROM customer a JOIN customer b USING (c_phone)",
        "SELECT 1 FROM customer a NATURAL JOIN customer b",
        "SELECT * FROM customer",
        "SELECT * EXCEPT (c_name) FROM customer",
        "SELECT struct(*) FROM customer",
        "SELECT to_json(struct(c.*)) FROM customer c",
        "SELECT c FROM customer c",
        "SELECT e FROM tpch.customer AS t(a, b, e, d)",
        "SELECT t.e FROM customer t(a, b, e, d)",
        "SELECT x.e FROM (SELECT * FROM customer) x(a, b, e, d)",
        "WITH x(a, b, e, d) AS (SELECT * FROM customer) SELECT e FROM x",
        "WITH x AS (TABLE customer) SELECT x.* FROM x, (SELECT c_name FROM customer)",
        "SELECT c_name FROM customer UNION TABLE customer",
        "TABLE customer",
        "FROM customer",
        "FROM customer |> WHERE c_name = 1",
        "FROM customer |> SELECT c_phone",
        "FROM customer INSERT INTO a SELECT c_phone INSERT INTO b SELECT c_name",
        "SELECT * FROM customer UNPIVOT (v FOR n IN (c_phone, c_name))",
        "SELECT TRANSFORM(c_phone) USING 'cat' FROM customer",
        "SELECT IDENTIFIER('c_' || 'phone') FROM customer",
        "SELECT transform(array(1), x -> c_phone) FROM customer",
        "SELECT (SELECT max(c_phone) FROM customer)",
        "SELECT c_name FROM customer LATERAL VIEW explode(array(c_phone)) t AS p",
        "SELECT c_name FROM customer QUALIFY row_number() OVER (ORDER BY c_phone) = 1",
        "SELECT c_name FROM customer WINDOW w AS (PARTITION BY c_phone)",
        "SELECT c_name FROM customer CLUSTER BY c_phone",
        "SELECT c_name FROM (customer JOIN orders ON c_phone = o_comment)",
        "SELECT all.c_phone FROM customer all",
        "SELECT o_comment FROM orders",  # the engine saw customer all the same
        "no SQL at all",
        "SELECT c_name FROM customer; SELECT 1",
        "SELECT c_name FROM customer WHERE " + "(" * 200 + "1" + ")" * 200,
        "SELECT c_name FROM customer WHERE c_name IN (" + "1," * 6000 + "1)",
        "SELECT c_name FROM customer -- " + "x" * 60_000,
        "SELECT c_name FROM customer WHERE " + "NOT " * 1000 + "true",
    ],
)
def test_the_phone_number_is_not_read_unseen(sql: str) -> None:
    assert reads(sql, CUSTOMER)[CUSTOMER] & {"c_phone", "*"}


def test_what_the_engines_plan_names_is_read_whatever_the_text_says() -> None:
    plan = "(1) Scan parquet spark_catalog.tpch.customer\nOutput [2]: [c_name#, C_PHONE#]"
    assert reads("SELECT c_name FROM customer", CUSTOMER, plan=plan) == {CUSTOMER: {"c_name", "c_phone"}}
    shortened = "Output [40]: [c_name#, ... 15 more fields]"
    assert reads("SELECT c_name FROM customer", CUSTOMER, plan=shortened) == {CUSTOMER: {"*"}}


def test_a_table_of_which_nobody_knows_the_columns_is_read_wholly() -> None:
    assert reads("SELECT a FROM other.y", "other.y") == {"other.y": {"*"}}


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("INSERT INTO results.x SELECT c_name FROM tpch.customer", {CUSTOMER: {"c_name"}}),
        ("CREATE OR REPLACE TABLE results.x AS SELECT c_name FROM tpch.customer", {CUSTOMER: {"c_name"}}),
        (
            "INSERT INTO results.x SELECT c_name FROM customer WHERE c_name IN (SELECT b FROM results.x)",
            {CUSTOMER: {"c_name"}, RESULT: {"b"}},
        ),
        # What nobody can take apart may read its own target.
        ("INSERT INTO results.x TABLE customer", {CUSTOMER: {"*"}, RESULT: {"*"}}),
        # A query that is saved does not name its target.
        ("SELECT c_name FROM tpch.customer", {CUSTOMER: {"c_name"}}),
        ("SELECT c_name FROM customer, results.x WHERE a = c_name", {CUSTOMER: {"c_name"}, RESULT: {"a"}}),
        ("TABLE customer", {CUSTOMER: {"*"}, RESULT: {"*"}}),
        ("DELETE FROM results.x WHERE a = (SELECT max(c_name) FROM customer)", {CUSTOMER: {"c_name"}, RESULT: {"a"}}),
        (
            "UPDATE results.x SET a = 1 WHERE b = (SELECT max(c_name) FROM customer)",
            {CUSTOMER: {"c_name"}, RESULT: {"a", "b"}},
        ),
    ],
)
def test_of_the_table_that_is_written_that_is_read_which_is_looked_at(sql: str, found: dict[str, set[str]]) -> None:
    assert reads(sql, CUSTOMER, RESULT, writes=RESULT) == found


def test_a_merge_that_names_no_columns_reads_all() -> None:
    sql = "MERGE INTO results.x t USING tpch.customer s ON t.a = s.c_name WHEN NOT MATCHED THEN INSERT *"
    assert reads(sql, CUSTOMER, RESULT, writes=RESULT) == {CUSTOMER: {"*"}, RESULT: {"*"}}


def test_a_program_reads_all_of_what_it_declares_and_of_what_the_engine_saw() -> None:
    found = reads("print(1)", ORDERS, RESULT, language="python", declared=("TPCH.customer",), writes=RESULT)
    assert found == {CUSTOMER: {"*"}, ORDERS: {"*"}}
    assert reads("", RESULT, ORDERS, language="restore", writes=RESULT) == {ORDERS: {"*"}}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 FROM " + ",".join(f"customer c{n}" for n in range(1000)),
        "WITH a0 AS (SELECT *,* FROM customer)"
        + "".join(f",a{n} AS (SELECT *,* FROM a{n - 1})" for n in range(1, 200))
        + "SELECT 1",
        "SELECT " + ",".join(["*"] * 2000) + " FROM customer",
        "SELECT " + ".".join(["a"] * 2400) + " FROM customer",
        "SELECT " + "abs(" * 40 + "1" + ")" * 40 + " FROM customer",
        "SELECT 1 FROM " + "(" * 39 + "customer" + ")" * 39,
    ],
)
def test_hostile_text_takes_no_time(sql: str) -> None:
    before = time.process_time()
    reads(sql, CUSTOMER)
    assert time.process_time() - before < 2
