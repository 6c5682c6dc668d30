"""All rows of a table as any Delta reader sees it, read by no thread that could outlive the interpreter.

Arrow scans a dataset on threads of its own, and lets go of its file system on whichever ends last. A file system written
in Python, which is what deltalake brings, needs the interpreter for that; when the process is ending by then, it aborts.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyarrow.dataset import Dataset

#: Files of an object store that are fetched at once.
_REQUESTS = 16


def rows(table: DeltaTable, columns: Sequence[str] | None = None, filters: Any = None) -> pa.Table:
    """`filters`: an expression of pyarrow; files whose statistics exclude it are not read."""
    wanted = None if columns is None else list(columns)
    if _local(table.table_uri) is None:
        return _fetched(table, wanted, filters)
    return dataset(table).to_table(columns=wanted, filter=filters)


def dataset(table: DeltaTable) -> Dataset:
    """The table's files to be scanned lazily; with a file system of Arrow's own where they are on this machine."""
    folder = _local(table.table_uri)
    if folder is None:
        return table.to_pyarrow_dataset()
    from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

    return table.to_pyarrow_dataset(filesystem=SubTreeFileSystem(folder, LocalFileSystem()))


def _local(uri: str) -> str | None:
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return unquote(parts.path)
    return None if "://" in uri else uri


def _fetched(table: DeltaTable, columns: list[str] | None, filters: Any) -> pa.Table:
    """From an object store: whole files into memory, so that nothing of the store is left with Arrow."""
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    files = dataset(table)

    def read(fragment: Any) -> pa.Table:
        with files.filesystem.open_input_file(fragment.path) as file:
            data = file.read()
        found = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
        partition = ds.get_partition_keys(fragment.partition_expression)
        there = set(found.column_names)
        return pa.Table.from_arrays(
            [
                found.column(field.name).cast(field.type)
                if field.name in there
                else pa.repeat(pa.scalar(partition.get(field.name)).cast(field.type), found.num_rows)
                for field in files.schema
            ],
            schema=files.schema,
        )

    with ThreadPoolExecutor(_REQUESTS, thread_name_prefix="table-files") as pool:
        parts = list(pool.map(read, files.get_fragments(filter=filters)))
    found = pa.concat_tables(parts) if parts else files.schema.empty_table()
    if filters is not None:
        found = found.filter(filters)
    return found if columns is None else found.select(columns)
