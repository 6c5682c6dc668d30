from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from bus.log.table import DeltaLog
from schemas.tables import EXECUTIONS
from workers.adapters.knowledge import DeltaResultCatalog
from workers.ports import CouldNotMap, PortError, PublishedResult

START = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


def canonical(question: str) -> str:
    """Knows one measure under two names; everything else it cannot map."""
    words = question.lower().strip(" ?!.").replace("revenue", "sales").split()
    if "sales" not in words:
        raise CouldNotMap(words)
    return " ".join(sorted(words))


class Home:
    """A projection `executions` and a warehouse, both real."""

    def __init__(self, path: Path) -> None:
        self.warehouse = path / "warehouse"
        self.executions = DeltaLog(path / "executions", EXECUTIONS)
        self.executions.create()
        self.rows = 0

    def executed(self, question: str | None, target: str | None, version: int | None, **more: Any) -> None:
        self.rows += 1
        row = {
            "grant_id": f"grant-{self.rows}",
            "step": "done",
            "question": question,
            "code": "SELECT 1",
            "target": target,
            "table_version": version,
            "approved_by": "ada",
            "timestamp": START + timedelta(hours=self.rows),
            "log_version": self.rows,
            "seq": 0,
            **more,
        }
        self.executions.append(pa.Table.from_pylist([row], schema=EXECUTIONS.file_schema))

    def write(self, name: str, table: pa.Table, mode: str = "overwrite") -> None:
        write_deltalake(str(self.warehouse.joinpath(*name.split("."))), table, mode=mode)

    def catalog(self, meaning: Callable[[str], str] = canonical) -> DeltaResultCatalog:
        return DeltaResultCatalog(self.executions, self.warehouse, meaning)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def result(table: str = "tpch.top", version: int = 0) -> PublishedResult:
    return PublishedResult("q", "SELECT 1", table, version, "2026-03-01T10:30:00+00:00", "ada", "grant-1")


def test_a_result_is_found_by_what_the_question_means(home: Home):
    home.executed("Top customers by revenue", "tpch.top", 3)
    assert home.catalog().find("top customers by sales?") == PublishedResult(
        question="Top customers by revenue",
        sql="SELECT 1",
        table="tpch.top",
        table_version=3,
        executed_at="2026-03-01T10:30:00+00:00",
        approved_by="ada",
        grant_id="grant-1",
    )


def test_alike_is_not_the_same(home: Home):
    home.executed("top 10 customers by sales", "tpch.top", 3)
    catalog = home.catalog()
    for question in ("top 5 customers by sales", "top 10 suppliers by sales", "sales", "top 10 customers", ""):
        assert catalog.find(question) is None


def test_a_question_that_cannot_be_mapped_is_found_by_its_text_alone(home: Home):
    home.executed("Which  parts were Returned?", "tpch.returned", 1)
    catalog = home.catalog()
    assert catalog.find("which parts were returned") is not None
    assert catalog.find("which part was returned") is None


def test_a_mapped_meaning_never_meets_an_unmapped_text(home: Home):
    home.executed("x", "tpch.top", 1)
    assert home.catalog(lambda question: _raise(CouldNotMap(["x"])) if question == "x" else "x").find("y") is None


def _raise(error: Exception) -> str:
    raise error


def test_the_newest_counts_by_order_in_the_log(home: Home):
    home.executed("sales", "tpch.new", 7, log_version=9, seq=2)
    home.executed("sales", "tpch.old", 6, log_version=9, seq=1)
    found = home.catalog().find("revenue")
    assert found is not None
    assert (found.table, found.table_version) == ("tpch.new", 7)


@pytest.mark.parametrize(
    "what",
    [
        {"step": "claimed"},
        {"step": "failed"},
        {"step": "in_doubt"},
        {"target": None},
        {"version": None},
        {"question": None},
    ],
)
def test_only_what_was_done_and_saved_is_published(home: Home, what: dict[str, Any]):
    home.executed(**{"question": "sales", "target": "tpch.top", "version": 1} | what)
    assert home.catalog().find("sales") is None


def test_a_later_execution_is_seen_and_each_stored_question_is_mapped_once(home: Home):
    asked: list[str] = []

    def counting(question: str) -> str:
        asked.append(question)
        return canonical(question)

    home.executed("sales", "tpch.top", 1)
    catalog = home.catalog(counting)
    assert catalog.find("sales by nation") is None
    home.executed("sales by nation", "tpch.nations", 2)
    found = catalog.find("revenue by nation")
    assert found is not None
    assert found.table == "tpch.nations"
    assert sorted(asked) == ["revenue by nation", "sales", "sales by nation", "sales by nation"]


def test_no_projection_yet_is_a_clear_error(tmp_path: Path):
    catalog = DeltaResultCatalog(DeltaLog(tmp_path / "none", EXECUTIONS), tmp_path, canonical)
    with pytest.raises(PortError, match="Nothing has been published yet"):
        catalog.find("sales")


def test_values_are_ready_for_json_and_nothing_is_rounded(home: Home):
    home.write(
        "tpch.top",
        pa.table(
            {
                "name": ["Ä"],
                "sales": pa.array([Decimal("12345678901234567890.1000")], pa.decimal128(38, 4)),
                "small": pa.array([Decimal("0.0000000001")], pa.decimal128(20, 10)),
                "day": [date(1998, 8, 2)],
                "at": pa.array([START], pa.timestamp("us", tz="UTC")),
                "count": [3],
                "share": [0.5],
                "odd": [float("nan")],
                "raw": [b"\x00\x01"],
                "open": [True],
                "nothing": pa.array([None], pa.string()),
                "list": [[Decimal("1.50"), None]],
            }
        ),
    )
    rows = home.catalog().read(result(), 10)
    assert dict(zip(rows.columns, rows.rows[0], strict=True)) == {
        "name": "Ä",
        "sales": "12345678901234567890.1000",
        "small": "0.0000000001",
        "day": "1998-08-02",
        "at": "2026-03-01T09:30:00+00:00",
        "count": 3,
        "share": 0.5,
        "odd": "nan",
        "raw": "AAE=",
        "open": True,
        "nothing": None,
        "list": ["1.50", None],
    }


def test_exactly_the_published_version_is_read(home: Home):
    home.write("tpch.top", pa.table({"n": [1, 2]}))
    home.write("tpch.top", pa.table({"n": [3]}))
    home.write("tpch.top", pa.table({"n": [4]}), mode="append")
    read = home.catalog().read
    found = [sorted(read(result(version=version), 10).rows) for version in range(3)]
    assert found == [[(1,), (2,)], [(3,)], [(3,), (4,)]]


@pytest.mark.parametrize(("limit", "rows", "truncated"), [(0, 0, True), (2, 2, True), (3, 3, False), (9, 3, False)])
def test_rows_are_bounded_and_more_is_said(home: Home, limit: int, rows: int, truncated: bool):
    home.write("tpch.top", pa.table({"n": [3, 1, 2]}))
    found = home.catalog().read(result(), limit)
    assert (found.rows, found.truncated) == (((3,), (1,), (2,))[:rows], truncated)


def test_the_stored_order_is_kept_across_files(home: Home):
    """As an engine leaves a sorted result: numbered files, in the log in any order."""
    home.write("tpch.top", pa.table({"n": [0]}))
    folder = home.warehouse / "tpch" / "top"
    entry = folder / "_delta_log" / f"{0:020d}.json"
    actions = [json.loads(line) for line in entry.read_text(encoding="utf-8").splitlines()]
    kept = [action for action in actions if "add" not in action]
    for part in (2, 0, 1):
        path = folder / f"part-0000{part}-x.snappy.parquet"
        pq.write_table(pa.table({"n": [90 - 10 * part - i for i in range(10)]}), path)
        [added] = [action["add"] for action in actions if "add" in action]
        kept.append({"add": {**added, "path": path.name, "size": path.stat().st_size, "stats": None}})
    entry.write_text("".join(json.dumps(action) + "\n" for action in kept), encoding="utf-8")
    found = home.catalog().read(result(), 25)
    assert [row[0] for row in found.rows] == list(range(90, 65, -1))
    assert found.truncated


def test_an_empty_result_has_its_columns(home: Home):
    home.write("tpch.top", pa.table({"n": pa.array([], pa.int64())}))
    assert home.catalog().read(result(), 10).columns == ("n",)


def test_a_missing_table_and_a_missing_version_are_clear_errors(home: Home):
    with pytest.raises(PortError, match=r"tpch\.top, version 0, is not there"):
        home.catalog().read(result(), 10)
    home.write("tpch.top", pa.table({"n": [1]}))
    with pytest.raises(PortError, match=r"tpch\.top, version 5, can no longer be read"):
        home.catalog().read(result(version=5), 10)


def test_a_version_that_was_vacuumed_is_a_clear_error(home: Home):
    home.write("tpch.top", pa.table({"n": [1]}))
    home.write("tpch.top", pa.table({"n": [2]}))
    DeltaTable(str(home.warehouse / "tpch" / "top")).vacuum(
        retention_hours=0, enforce_retention_duration=False, dry_run=False
    )
    with pytest.raises(PortError, match=r"tpch\.top, version 0, can no longer be read"):
        home.catalog().read(result(), 10)
    assert home.catalog().read(result(version=1), 10).rows == ((2,),)


def test_a_damaged_file_is_a_clear_error(home: Home):
    home.write("tpch.top", pa.table({"n": [1]}))
    [file] = (home.warehouse / "tpch" / "top").glob("*.parquet")
    file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(PortError, match=r"tpch\.top, version 0, can no longer be read"):
        home.catalog().read(result(), 10)


@pytest.mark.parametrize("table", ["top", "../keys", "a.b.c", "tpch./etc", "tpch.", "tpch.top\n", ".."])
def test_a_name_that_leaves_the_warehouse_is_refused(home: Home, table: str):
    with pytest.raises(PortError, match=r"is no schema\.table"):
        home.catalog().read(result(table), 10)
