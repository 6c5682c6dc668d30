"""Copies of the declared tables at their newest version, in a form that code can read without knowing where tables are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from bus.log import reading
from workers.adapters.sandbox import history
from workers.adapters.sandbox.names import delta_tables
from workers.ports import StatementFailed, StatementRefused

_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Copied:
    """One table as it was at `version`; `columns` are `name type`."""

    name: str
    version: int
    rows: int
    bytes: int
    columns: tuple[str, ...]


def find(names: Sequence[str], warehouse: Path, schemas: Sequence[str]) -> dict[str, Path]:
    """Where the declared tables are. Raises StatementRefused with `reads.missing`."""
    there = dict(delta_tables(warehouse, schemas))
    for name in names:
        if name not in there:
            raise StatementRefused(
                "reads.missing", f"there is no table {name!r} to read: tables are schema.table, in {', '.join(schemas)}"
            )
    return {name: there[name] for name in sorted(set(names))}


def copy(tables: Mapping[str, Path], folder: Path, language: str, most: int) -> list[Copied]:
    """Raises StatementRefused with `reads.size`, `reads.files`, or StatementFailed for a table that cannot be read."""
    opened = {name: _opened(name, path) for name, path in tables.items()}
    size = sum(sum(table.get_add_actions().column("size_bytes").to_pylist()) for table in opened.values())
    if size > most:
        raise too_large(size, most)
    return [_copied(name, table, folder, language, most) for name, table in opened.items()]


def too_large(size: int, most: int) -> StatementRefused:
    return StatementRefused(
        "reads.size",
        f"the declared tables have {size} bytes or more, and code may be given {most}: reduce them by SQL first",
    )


def _opened(name: str, path: Path) -> DeltaTable:
    try:
        table = history.open_table(path)
    except (DeltaError, OSError) as error:
        raise StatementFailed(f"{name} cannot be read: {_first_line(error)}") from error
    if table is None:
        raise StatementRefused("reads.missing", f"there is no table {name!r} any more")
    for file in table.get_add_actions().column("path").to_pylist():
        if "://" in file or file.startswith("/") or ".." in file.split("/"):
            raise StatementRefused("reads.files", f"{name} points at a file elsewhere: it is no plain table, copy it")
    return table


def _copied(name: str, table: DeltaTable, folder: Path, language: str, most: int) -> Copied:
    try:
        rows = reading.dataset(table)
        schema = rows.schema
        suffix = "parquet" if language == "pyspark" else "arrow"
        place = folder / f"{name}.{suffix}"
        count = 0
        batches = rows.scanner(batch_size=_BATCH_ROWS).to_batches()
        with pa.OSFile(str(place), "wb") as file, _writer(language, file, schema) as written:
            for batch in batches:
                written.write_batch(batch)
                count += batch.num_rows
                if file.tell() > most:
                    raise too_large(file.tell(), most)
    except (DeltaError, pa.ArrowException, OSError) as error:
        raise StatementFailed(f"{name} cannot be read: {_first_line(error)}") from error
    columns = tuple(f"{field.name} {field.type}" for field in schema)
    return Copied(name, table.version(), count, place.stat().st_size, columns)


def _writer(language: str, file: pa.NativeFile, schema: pa.Schema) -> pq.ParquetWriter | pa.RecordBatchFileWriter:
    if language == "pyspark":
        return pq.ParquetWriter(file, schema, compression="NONE", version="2.6")
    return pa.ipc.new_file(file, schema)


def _first_line(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return said[0][:300] if said else type(error).__name__
