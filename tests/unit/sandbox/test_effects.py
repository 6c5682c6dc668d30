"""Effects: what is counted and shown of a change, against what a person would say who compares two tables."""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workers.adapters.sandbox import effects
from workers.adapters.sandbox.commits import Entry

METADATA = {"schemaString": '{"type":"struct","fields":[{"name":"k","type":"long"},{"name":"v","type":"string"}]}'}


def file(folder: Path, name: str, rows: list[dict], **more: Any) -> dict[str, Any]:
    pq.write_table(pa.Table.from_pylist(rows) if rows else pa.table({"k": pa.array([], pa.int64())}), folder / name)
    return {"path": name, **more}


def shown(folder: Path, before: list[dict], entry: Entry) -> Any:
    return effects.effect("results.t", 3, folder, before, METADATA, entry)


ROWS = st.lists(st.fixed_dictionaries({"k": st.integers(0, 3), "v": st.sampled_from(["a", "b", None])}), max_size=8)


@given(before=ROWS, after=ROWS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
def test_replacing_all_rows_counts_what_differs(tmp_path: Path, before: list[dict], after: list[dict]) -> None:
    old, new = file(tmp_path, "old.parquet", before), file(tmp_path, "new.parquet", after)

    found = shown(tmp_path, [old], Entry(info={"operation": "WRITE"}, adds=[new], removes=[old]))

    held, holds = (Counter((row["k"], row["v"]) for row in rows) for rows in (before, after))
    assert (found.rows_before, found.rows_after) == (len(before), len(after))
    assert (found.added, found.changed, found.removed) == ((holds - held).total(), 0, (held - holds).total())
    assert found.rows_before + found.added - found.removed == found.rows_after


@pytest.mark.parametrize(
    ("operation", "metrics", "counts"),
    [
        ("UPDATE", {"numUpdatedRows": "2"}, (0, 2, 0)),
        ("DELETE", {"numDeletedRows": 1}, (0, 0, 1)),
        (
            "MERGE",
            {"numTargetRowsInserted": 4, "numTargetRowsUpdated": 5, "numTargetRowsDeleted": 6, "numOutputRows": 9},
            (4, 5, 6),
        ),
    ],
)
def test_an_engine_that_says_which_rows_it_changed_is_believed(
    tmp_path: Path, operation: str, metrics: dict, counts: tuple[int, int, int]
) -> None:
    old, new = file(tmp_path, "old", [{"k": 1, "v": "a"}]), file(tmp_path, "new", [{"k": 1, "v": "b"}])

    found = shown(tmp_path, [old], Entry({"operation": operation, "operationMetrics": metrics}, [new], [old]))

    assert (found.added, found.changed, found.removed) == counts
    assert (found.sample_removed.rows, found.sample_added.rows) == ([[1, "a"]], [[1, "b"]])


def test_values_are_the_same_however_a_file_keeps_them(tmp_path: Path) -> None:
    at = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
    old = pa.table(
        {"d": pa.array([Decimal("1.50")], pa.decimal128(12, 2)), "at": pa.array([at], pa.timestamp("us", "UTC"))}
    )
    new = pa.table({"at": pa.array([at], pa.timestamp("ns")), "d": pa.array([Decimal("1.5")], pa.decimal128(38, 1))})
    pq.write_table(old, tmp_path / "old")
    pq.write_table(new, tmp_path / "new", use_deprecated_int96_timestamps=True)

    came, went = effects.compared(tmp_path, [{"path": "old"}], [{"path": "new"}])

    assert (came.total(), went.total()) == (0, 0)


def test_values_that_are_not_equal_to_themselves_or_cannot_be_hashed(tmp_path: Path) -> None:
    rows = [{"f": float("nan"), "l": [1, 2], "s": {"a": 1}}]
    for name in ("old", "new"):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)

    came, went = effects.compared(tmp_path, [{"path": "old"}], [{"path": "new"}])

    assert (came.total(), went.total()) == (0, 0)


def test_a_sample_is_short(tmp_path: Path) -> None:
    new = file(tmp_path, "new", [{"k": number, "v": "x" * 1000} for number in range(50)])

    found = shown(tmp_path, [], Entry({"operation": "WRITE", "operationMetrics": {"numOutputRows": "50"}}, [new]))

    assert (found.added, len(found.sample_added.rows)) == (50, effects.SAMPLE_ROWS)
    assert len(found.sample_added.rows[0][1]) < 250


def test_beyond_a_size_rows_are_counted_and_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects, "COMPARED_ROWS", 3)
    old, new = file(tmp_path, "old", [{"k": 1}, {"k": 2}]), file(tmp_path, "new", [{"k": 1}, {"k": 3}])

    replaced = shown(tmp_path, [old], Entry({"operation": "WRITE"}, [new], [old]))
    updated = shown(
        tmp_path, [old], Entry({"operation": "UPDATE", "operationMetrics": {"numUpdatedRows": 1}}, [new], [old])
    )

    assert (replaced.added, replaced.removed, replaced.sample_added) == (2, 2, None)
    assert "counts as removed" in replaced.note
    assert (updated.changed, updated.sample_added) == (1, None)
    assert "too many to compare" in updated.note
