"""What code gave as its result: checked, since only the code vouches for it, and staged as the next version of its target."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake

from schemas.payloads import EffectPreview
from workers.adapters.sandbox.commits import entry_path, local_path, read_entry, refuse_unknown_features
from workers.adapters.sandbox.effects import effect
from workers.adapters.sandbox.protocol import cell
from workers.ports import StatementFailed, StatementRefused

#: Delta refuses these in a column's name.
_UNSAVABLE = frozenset(" ,;{}()\n\t=")

#: Settings whose rules hold for every row, or forbid that rows go: whoever replaces all rows cannot keep them.
_RULES = ("delta.constraints.", "delta.appendOnly")


def taken(file: Path, most: int) -> pa.Table:
    """The rows that the code left. Raises StatementFailed for what is no table, or not all of one."""
    try:
        table = _read(file, most)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise StatementFailed(f"the result is no table: {_first_line(error)}") from error
    names = table.column_names
    if len(set(names)) < len(names) or not names:
        raise StatementFailed("the columns of the result need names, each its own")
    return table


def _read(file: Path, most: int) -> pa.Table:
    batches, size = [], 0
    with pa.OSFile(str(file)) as source, pa.ipc.open_stream(source) as stream:
        for batch in stream:
            batch.validate(full=True)  # offsets and lengths are the code's word, and are read as if they were true
            size += batch.nbytes
            if size > most:
                raise StatementFailed(f"the result has more than {most} bytes: aggregate, or take fewer columns")
            batches.append(batch)
        table = pa.Table.from_batches(batches, stream.schema)
    columns = [
        pa.chunked_array([_plain(chunk) for chunk in column.chunks], _plain_type(column.type))
        for column in table.columns
    ]
    return pa.table(columns, names=table.column_names)


def rows(table: pa.Table, limit: int) -> list[list[Any]]:
    shown = table.slice(0, limit)
    return [[cell(row[name]) for name in table.column_names] for row in shown.to_pylist()]


def columns(table: pa.Table) -> list[str]:
    return [f"{field.name} {field.type}" for field in table.schema]


def refuse_unsavable(table: pa.Table, target: str) -> None:
    """What Delta would refuse, said before anybody approves it. Raises `target.columns`."""
    seen: set[str] = set()
    for field in table.schema:
        if field.name.lower() in seen or _UNSAVABLE & set(field.name):
            raise StatementRefused(
                "target.columns", f"column {field.name!r} cannot be saved to {target}: give it a name of its own"
            )
        if pa.types.is_null(field.type):
            raise StatementRefused(
                "target.columns", f"column {field.name!r} has no type, as it holds nothing: give it one in `result`"
            )
        seen.add(field.name.lower())


@dataclass(frozen=True)
class Staged:
    """The target's next version, below the scratch folder. `base`: the version it replaces; None for a new table."""

    place: Path
    base: int | None
    verb: str
    effect: EffectPreview


def stage(table: pa.Table, target: str, path: Path, base: int | None, scratch: Path) -> Staged:
    """Raises StatementRefused with `target.columns` or `target.features`."""
    refuse_unsavable(table, target)
    folder = scratch / "stage" / "table"
    try:
        write_deltalake(str(folder), table)
    except Exception as error:  # Delta's writer raises this very class for a type that it does not know
        raise StatementRefused(
            "target.columns", f"the result cannot be saved to {target}: {_first_line(error)}"
        ) from error
    before: list[dict[str, Any]] = []
    metadata = None
    if base is not None:
        old = DeltaTable(str(path), version=base)
        metadata = {"schemaString": old.schema().to_json()}
        before = _replace(folder, scratch, target, old, path)
    entry = read_entry(scratch, folder.relative_to(scratch), 0 if base is None else 1)
    if entry is None:
        raise StatementFailed(f"{target} was not staged, although nothing went wrong: run it again")
    found = effect(target, base, folder, before, metadata, entry)
    return Staged(folder.relative_to(scratch), base, "create" if base is None else "replace", found)


def keep_whole(table: pa.Table, scratch: Path) -> Path:
    """All rows of a result that is too long to be shown."""
    pq.write_table(table, scratch / "whole.parquet")
    return Path("whole.parquet")


def _replace(folder: Path, scratch: Path, target: str, old: DeltaTable, path: Path) -> list[dict[str, Any]]:
    """Turn the stage of a new table into one of the old table's next version; returns what the old one holds."""
    refuse_unknown_features(old, target)
    if rules := [name for name in old.metadata().configuration if name.startswith(_RULES)]:
        raise StatementRefused("target.features", f"{target} has {rules[0]}, which replacing all rows would break")
    created = read_entry(scratch, folder.relative_to(scratch), 0)
    if created is None or created.metadata is None:
        raise StatementFailed(f"{target} was not staged, although nothing went wrong: run it again")
    before = [_action(row) for row in pa.table(old.get_add_actions()).to_pylist()]
    for action in before:
        place = folder / local_path(action["path"])
        place.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(path / local_path(action["path"]), place)
    now = time.time_ns() // 1_000_000
    actions: list[dict[str, Any]] = [
        {"commitInfo": {"operation": "WRITE", "operationParameters": {"mode": "Overwrite"}}},
        *({"remove": {"path": action["path"], "deletionTimestamp": now, "dataChange": True}} for action in before),
        *({"add": action} for action in created.adds),
    ]
    if _shape(old) != _shape(DeltaTable(str(folder))):
        kept = {"id": old.metadata().id, "configuration": old.metadata().configuration}
        actions.append({"metaData": {**created.metadata, **kept}})
    entry_path(folder, 1).write_text("\n".join(json.dumps(action) for action in actions), encoding="utf-8")
    return before


def _shape(table: DeltaTable) -> tuple[str, Sequence[str]]:
    return table.schema().to_json(), table.metadata().partition_columns


def _action(row: dict[str, Any]) -> dict[str, Any]:
    """An `add` as a comparison needs it; a partition's values stand beside the file, and not in it."""
    values = {name.removeprefix("partition."): value for name, value in row.items() if name.startswith("partition.")}
    values |= row.get("partition_values") or row.get("partition") or {}
    stats = None if row.get("num_records") is None else json.dumps({"numRecords": row["num_records"]})
    return {"path": row["path"], "size": row["size_bytes"], "partitionValues": values, "stats": stats}


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """What Delta has for a type of Arrow: no unsigned numbers, no dictionaries, all times in microseconds and UTC."""
    types = pa.types
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return _plain_type(kind.value_type)
    if types.is_timestamp(kind):
        return pa.timestamp("us", "UTC")
    if types.is_date64(kind):
        return pa.date32()
    if types.is_float16(kind):
        return pa.float32()
    if types.is_unsigned_integer(kind):
        return {8: pa.int16(), 16: pa.int32(), 32: pa.int64(), 64: pa.int64()}[kind.bit_width]
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_large_binary(kind) or types.is_binary_view(kind) or types.is_fixed_size_binary(kind):
        return pa.binary()
    return kind


def _plain(array: pa.Array) -> pa.Array:
    kind = _plain_type(array.type)
    if kind == array.type:
        return array
    if pa.types.is_dictionary(array.type):
        return _plain(array.dictionary_decode())
    safe = not pa.types.is_timestamp(kind)  # nanoseconds are cut; a number that does not fit is an error
    return array.cast(kind, safe=safe)


def _first_line(error: BaseException) -> str:
    said = str(error).strip().splitlines()
    return said[0][:200] if said else type(error).__name__
