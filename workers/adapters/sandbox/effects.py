"""What a statement did to a snapshot of its target: rows counted by kind, and a few of them to look at."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.payloads import EffectPreview, Sample
from workers.adapters.sandbox.commits import Entry, local_path, rows_in
from workers.adapters.sandbox.protocol import cell

#: Rows shown of each kind, and characters of one value.
SAMPLE_ROWS = 10
LONGEST_VALUE = 200

#: Rows of the files a statement touched, up to which they are compared one by one.
COMPARED_ROWS = 100_000

_NOT_COMPARED = "its files hold {rows} rows, too many to compare one by one: {what}"

Row = tuple[Any, ...]


def effect(
    table: str,
    version: int | None,
    folder: Path,
    before: Sequence[dict[str, Any]],
    metadata: dict[str, Any] | None,
    entry: Entry,
) -> EffectPreview:
    """`before`: the files that were there, with their `metadata`; `folder`: where they and those that `entry` adds lie."""
    added_rows = sum(rows_in(action, folder) for action in entry.adds)
    rows_before = sum(rows_in(action, folder) for action in before)
    by_path = {action["path"]: action for action in before}
    gone = [by_path.get(action["path"], action) for action in entry.removes]
    removed_rows = sum(rows_in(action, folder) for action in gone)
    counts = counted(entry)
    touched = added_rows + removed_rows
    note, samples = "", {}
    if touched <= COMPARED_ROWS:
        came, went = compared(folder, gone, entry.adds)
        old = columns_of(metadata) if metadata else []
        new = columns_of(entry.metadata) if entry.metadata else old
        samples = {"sample_added": _sample(new, came), "sample_removed": _sample(old, went)}
        if counts is None:
            counts = came.total(), 0, went.total()
    elif counts is None:
        counts = added_rows, 0, removed_rows
        note = _NOT_COMPARED.format(rows=touched, what="all that went counts as removed, all that came as added")
    else:
        note = _NOT_COMPARED.format(rows=touched, what="only counted")
    added, changed, removed = counts
    return EffectPreview(
        table=table,
        version=version,
        rows_before=rows_before,
        rows_after=rows_before - removed_rows + added_rows,
        added=added,
        changed=changed,
        removed=removed,
        note=note,
        **samples,
    )


def counted(entry: Entry) -> tuple[int, int, int] | None:
    """Rows added, changed and removed, as the engine counted them; None when it only said that it replaced everything."""
    metrics, operation = entry.metrics, entry.info.get("operation", "")
    if operation == "MERGE":
        names = ("numTargetRowsInserted", "numTargetRowsUpdated", "numTargetRowsDeleted")
        inserted, updated, deleted = (metrics.get(name, 0) for name in names)
        return inserted, updated, deleted
    if operation == "UPDATE":
        return 0, metrics.get("numUpdatedRows", 0), 0
    if operation == "DELETE" and "numDeletedRows" in metrics:
        return 0, 0, metrics["numDeletedRows"]
    if not entry.removes and "numOutputRows" in metrics:
        return metrics["numOutputRows"], 0, 0
    return None


def compared(folder: Path, gone: Sequence[dict[str, Any]], came: Sequence[dict[str, Any]]) -> tuple[Counter, Counter]:
    """Rows that are only in the new files, and rows that are only in the old ones; each as often as it occurs."""
    before, after = Counter(_rows(folder, gone)), Counter(_rows(folder, came))
    return after - before, before - after


def columns_of(metadata: dict[str, Any]) -> list[str]:
    return [found["name"] for found in json.loads(metadata["schemaString"])["fields"]]


def _rows(folder: Path, files: Sequence[dict[str, Any]]) -> Iterator[Row]:
    """Every row as (column, value) pairs by name, so that files with other columns or another order compare."""
    for action in files:
        constant = {name: value for name, value in (action.get("partitionValues") or {}).items() if value is not None}
        data = _read(folder / local_path(action["path"]))
        for row in data.to_pylist():
            yield tuple(
                sorted((name, _plain(value)) for name, value in {**row, **constant}.items() if value is not None)
            )


def _read(path: Path) -> pa.Table:
    """Times in microseconds and in UTC, however the file keeps them."""
    data = pq.ParquetFile(path, coerce_int96_timestamp_unit="us").read()
    for index, found in enumerate(data.schema):
        if pa.types.is_timestamp(found.type):
            data = data.set_column(index, found.name, data.column(index).cast(pa.timestamp("us", "UTC"), safe=False))
    return data


def _plain(value: Any) -> Any:
    """A value that can be counted: equal to itself, and hashable."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, list | dict):
        return repr(value)
    return value


def _sample(columns: Sequence[str], rows: Counter) -> Sample | None:
    if not rows:
        return None
    shown = [dict(row) for _, row in zip(range(SAMPLE_ROWS), rows.elements(), strict=False)]
    return Sample(columns=list(columns), rows=[[_short(cell(row.get(name))) for name in columns] for row in shown])


def _short(value: Any) -> Any:
    text = isinstance(value, str) and len(value) > LONGEST_VALUE
    return f"{value[:LONGEST_VALUE]}..." if text else value
