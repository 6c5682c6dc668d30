"""A small TPC-H lake in DuckDB, generated once, and the layer under test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlglot

from workers.adapters.semantic import SemanticLayer

MODEL = Path(__file__).parents[3] / "config" / "semantic" / "tpch.yaml"
TABLES = ("region", "nation", "supplier", "part", "partsupp", "customer", "orders", "lineitem")

# What references are written against: every join spelled out by hand, one row per line item, order, customer ...
REFERENCE_VIEWS = """
create view cust as select c.*, n_name as cnation, r_name as cregion from tpch.customer c
  join tpch.nation on c_nationkey = n_nationkey join tpch.region on n_regionkey = r_regionkey;
create view supp as select s.*, n_name as snation, r_name as sregion from tpch.supplier s
  join tpch.nation on s_nationkey = n_nationkey join tpch.region on n_regionkey = r_regionkey;
create view ords as select *, year(o_orderdate) as y, strftime(o_orderdate, '%Y-%m') as ym,
  year(o_orderdate) || '-Q' || quarter(o_orderdate) as yq from tpch.orders join cust on o_custkey = c_custkey;
create view offers as select * from tpch.partsupp join tpch.part on ps_partkey = p_partkey
  join supp on ps_suppkey = s_suppkey;
create view li as select *, l_extendedprice * (1 - l_discount) as s, year(l_shipdate) as sy from tpch.lineitem
  join ords on l_orderkey = o_orderkey join tpch.part on l_partkey = p_partkey join supp on l_suppkey = s_suppkey;
"""


@pytest.fixture(scope="session")
def layer() -> SemanticLayer:
    return SemanticLayer.load(MODEL)


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    folder = tmp_path_factory.mktemp("tpch")
    generator = Path(sys.executable).parent / "tpchgen-cli"
    subprocess.run([generator, "parquet", "-s", "0.01", "--quiet", f"--output-dir={folder}"], check=True)
    connection = duckdb.connect()
    connection.execute("set threads = 1; create schema tpch")
    for table in TABLES:
        connection.execute(f"create table tpch.{table} as select * from '{folder}/{table}.parquet'")
    connection.execute(REFERENCE_VIEWS)
    yield connection
    connection.close()


@pytest.fixture(scope="session")
def run_spark_sql(lake: duckdb.DuckDBPyConnection) -> Callable[[str], list[tuple[Any, ...]]]:
    """Run a statement of Spark's dialect on the lake."""

    def run(sql: str) -> list[tuple[Any, ...]]:
        return plain(lake.execute(sqlglot.transpile(sql, read="spark", write="duckdb")[0]).fetchall())

    return run


def plain(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows with numbers made comparable: engines differ in the type of a quotient, not in its value."""
    return [
        tuple(
            round(float(v), 3) if isinstance(v, (Decimal, float, int)) and not isinstance(v, bool) else v for v in row
        )
        for row in rows
    ]
