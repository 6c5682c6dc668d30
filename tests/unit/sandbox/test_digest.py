import pytest

from workers.adapters.sandbox.digest import digest, normalised

PLAN = """== Physical Plan ==
TakeOrderedAndProject (2)
+- Scan parquet spark_catalog.tpch.nation (1)

(1) Scan parquet spark_catalog.tpch.nation
Output [1]: [n_name#{a}L]
Location: TahoeLogFileIndex [file:{home}/warehouse/tpch/nation]
Arguments: HashedRelationBroadcastMode, [plan_id={b}], Subquery scalar-subquery#{a}, [id=#{b}]
"""


def plan(a: int, b: int, home: str) -> str:
    return normalised(PLAN.format(a=a, b=b, home=home), home)


def test_what_two_sessions_number_differently_does_not_count() -> None:
    assert plan(12, 7, "/srv/one") == plan(34567, 890, "/home/two/.tailrace")


def test_what_is_read_and_how_does_count() -> None:
    assert plan(1, 1, "/h") != plan(1, 1, "/h").replace("nation", "region")
    assert "parquet spark_catalog.tpch.nation (1)" in plan(1, 1, "/h")
    assert "/h/" not in plan(1, 1, "/h")


def test_the_same_facts_give_the_same_digest_in_any_order() -> None:
    first = digest("SELECT 1", None, {"a.b": 1, "a.c": 2}, ["x int"], "plan")

    assert first == digest("SELECT 1", None, {"a.c": 2, "a.b": 1}, ["x int"], "plan")
    assert len(first) == 64


@pytest.mark.parametrize(
    "other",
    [
        ("SELECT 2", None, {"a.b": 1}, ["x int"], "plan"),
        ("SELECT 1", "results.x", {"a.b": 1}, ["x int"], "plan"),
        ("SELECT 1", None, {"a.b": 2}, ["x int"], "plan"),
        ("SELECT 1", None, {"a.b": 1}, ["x bigint"], "plan"),
        ("SELECT 1", None, {"a.b": 1}, ["x int"], "another plan"),
    ],
)
def test_each_fact_counts(other: tuple) -> None:
    assert digest(*other) != digest("SELECT 1", None, {"a.b": 1}, ["x int"], "plan")
