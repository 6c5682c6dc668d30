"""Compaction: many small files become one large file with the same rows in log order, in tiers, so that cost a message stays flat.

A file's tier is the magnitude of its row count. Sixteen neighbours of one tier become one file of the next; files of a
lower tier between them go along. So a row is written again once a tier, and a day ends with a few large files.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import NoneType
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bus.errors import ForeignLog
from bus.log import entry as entries
from bus.log.entry import Added, Entry, entry_path
from schemas.columns import TableSchema
from schemas.tables import AGENT_MESSAGES

if TYPE_CHECKING:
    from bus.log.contents import Contents
    from bus.log.table import DeltaLog

FAN_OUT = 16
#: Bytes from which a file is large enough to be left alone.
TARGET = 128 << 20
#: Rows of a row group, which is what is held in memory at once.
GROUP = 32_768

#: Rows of a file that were read before, as a table or as an entry said them; or None.
Known = Callable[[str], pa.Table | list[Mapping[str, Any]] | None]
#: Whether `log_version` and `seq` of a table's rows are places in this very table.
PLACED = AGENT_MESSAGES.name
#: What an entry may say of a row of that table: column -> Python types.
_PYTHON = {"string": (str, NoneType), "int": (int, NoneType), "long": (int, NoneType), "timestamp": (int, NoneType)}
_COLUMNS = {column.name: _PYTHON[column.type] for column in AGENT_MESSAGES.columns if column.name != "date"}
#: Numbers are smaller than this.
_BELOW = {column.name: 1 << (31 if column.type == "int" else 63) for column in AGENT_MESSAGES.columns}


def tier(rows: int) -> int:
    """The power of sixteen that is not above it."""
    return (max(rows, 1).bit_length() - 1) // 4


# --- what to merge -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Piece:
    """Files that will be one file."""

    files: tuple[Added, ...]
    rows: int
    size: int

    @property
    def tier(self) -> int:
        return tier(self.rows)


def plan(files: Iterable[Added], today: str, fan_out: int = FAN_OUT, target: int = TARGET) -> list[list[Added]]:
    """Groups of neighbours to merge, each within one partition. Days that are over are merged as far as it goes."""
    partitions: dict[tuple[tuple[str, str | None], ...], list[Added]] = {}
    for one in files:
        partitions.setdefault(tuple(sorted(one.partition.items())), []).append(one)
    groups: list[list[Added]] = []
    for key, members in partitions.items():
        over = "date" in dict(key) and (dict(key)["date"] or "") < today
        groups += _plan_partition(sorted(members, key=_place), over, fan_out, target)
    return groups


def _plan_partition(members: Sequence[Added], over: bool, fan_out: int, target: int) -> list[list[Added]]:
    pieces = [_Piece((one,), max(one.rows, 1), one.size) for one in members]
    level = 0
    while level <= max((piece.tier for piece in pieces), default=-1):
        pieces = _merge_level(pieces, level, fan_out, target)
        level += 1
    if over:
        pieces = [joined for run in _runs(pieces, lambda piece: piece.size < target) for joined in _chunks(run, target)]
    return [list(piece.files) for piece in pieces if len(piece.files) > 1]


def _merge_level(pieces: list[_Piece], level: int, fan_out: int, target: int) -> list[_Piece]:
    merged: list[_Piece] = []
    for run in _runs(pieces, lambda piece: piece.tier <= level and piece.size < target):
        enough = sum(piece.tier == level for piece in run) >= fan_out
        merged += _chunks(run, target) if enough else run
    return merged


def _runs(pieces: Sequence[_Piece], small: Callable[[_Piece], bool]) -> Iterator[list[_Piece]]:
    """Neighbours that are small, together; the others alone."""
    run: list[_Piece] = []
    for piece in pieces:
        if small(piece):
            run.append(piece)
            continue
        if run:
            yield run
        yield [piece]
        run = []
    if run:
        yield run


def _chunks(run: Sequence[_Piece], target: int) -> list[_Piece]:
    """As few pieces as stay below the target size."""
    found: list[_Piece] = []
    for piece in run:
        if found and found[-1].size + piece.size <= target:
            last = found[-1]
            found[-1] = _Piece(last.files + piece.files, last.rows + piece.rows, last.size + piece.size)
        else:
            found.append(piece)
    return found


def _place(one: Added) -> tuple[int, int, str]:
    return (one.span[0] if one.span else -1, one.modified_ms, one.path)


# --- merging -----------------------------------------------------------------------------------------------------------


def merge(table: DeltaLog, sources: Sequence[Added], known: Known = lambda _: None) -> Added:
    """Write one file with the rows of all sources, in log order; the log does not know it yet."""
    ordered = sorted(sources, key=_place)
    try:
        data, measured = _write(table.schema, _in_groups(_rows(table, ordered, known)))
    except _OutOfOrder:
        # Files whose versions overlap, which this writer does not make: all of it at once, sorted.
        everything = pa.concat_tables(list(_rows(table, ordered, known)))
        by = [("log_version", "ascending"), ("seq", "ascending")]
        data, measured = _write(table.schema, iter([everything.sort_by(by)]))
    return _added(table, ordered, data, measured)


def rewrite(table: DeltaLog, sources: Sequence[Added], rows: pa.Table) -> Added:
    """Write one file with some of the rows of these sources, sorted; the log does not know it yet."""
    by = [("log_version", "ascending"), ("seq", "ascending")]
    data, measured = _write(table.schema, iter([rows.select(table.schema.file_schema.names).sort_by(by)]))
    return _added(table, sources, data, measured)


def _added(table: DeltaLog, sources: Sequence[Added], data: bytes, measured: _Measured) -> Added:
    partition = sources[0].partition
    path = entries.data_path(partition, f"compacted-{uuid.uuid4().hex}.parquet")
    table.store.put(path, data)
    spans = [one.span for one in sources if one.span is not None]
    span = (min(first for first, _ in spans), max(last for _, last in spans)) if len(spans) == len(sources) else None
    return Added(path, partition, len(data), measured.rows, measured.stats(), span=span)


def _rows(table: DeltaLog, sources: Sequence[Added], known: Known) -> Iterator[pa.Table]:
    names = table.schema.file_schema.names
    raws: list[Mapping[str, Any]] = []
    for one in sources:
        held = known(one.path)
        if isinstance(held, list):
            raws += held
            continue
        if raws:
            yield _table(table.schema, raws)
            raws = []
        rows = table.read_file(one) if held is None else held
        yield placed(table.schema, rows.select(names), one.span)
    if raws:
        yield _table(table.schema, raws)


def _table(schema: TableSchema, raws: Sequence[Mapping[str, Any]]) -> pa.Table:
    """One table a thousand rows: a file of one row costs twenty times what its row costs."""
    columns = [pa.array([raw.get(field.name) for raw in raws], field.type) for field in schema.file_schema]
    return pa.Table.from_arrays(columns, schema=schema.file_schema)


def raw_rows(entry: Entry) -> list[Mapping[str, Any]] | None:
    """An entry's rows as it says them itself; None when they are not there, or not of the table's types."""
    if not entry.inline or len(entry.added) != 1:
        return None
    raws = [{**raw, "log_version": entry.version, "seq": place} for place, raw in enumerate(entry.inline)]
    for raw in raws:
        if not raw.keys() <= _COLUMNS.keys() or not all(_fits(name, value) for name, value in raw.items()):
            return None
    return raws


def _fits(name: str, value: Any) -> bool:
    return type(value) in _COLUMNS[name] and (type(value) is not int or -_BELOW[name] <= value < _BELOW[name])


def placed(schema: TableSchema, rows: pa.Table, span: tuple[int, int] | None) -> pa.Table:
    """A foreign writer's rows of one entry get the entry's version and their place in it, as every reader of entries sees them."""
    if schema.name != PLACED or span is None or span[0] != span[1] or is_placed(rows, span[0]):
        return rows
    version = pa.repeat(pa.scalar(span[0], pa.int64()), rows.num_rows)
    rows = rows.set_column(rows.schema.get_field_index("log_version"), "log_version", version)
    if _is_a_count(rows.column("seq")):
        return rows
    place = pa.array(range(rows.num_rows), pa.int32())
    return rows.set_column(rows.schema.get_field_index("seq"), "seq", place)


def is_placed(rows: pa.Table, version: int) -> bool:
    versions = rows.column("log_version")
    if versions.null_count or not pc.all(pc.equal(versions, version)).as_py():
        return not rows.num_rows
    return _is_a_count(rows.column("seq"))


def _is_a_count(seq: pa.ChunkedArray) -> bool:
    return not seq.null_count and sorted(seq.to_pylist()) == list(range(len(seq)))


def _in_groups(parts: Iterable[pa.Table]) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    rows = 0
    for part in parts:
        waiting.append(part)
        rows += part.num_rows
        if rows >= GROUP:
            yield pa.concat_tables(waiting)
            waiting, rows = [], 0
    if waiting:
        yield pa.concat_tables(waiting)


class _OutOfOrder(Exception):
    pass


def _write(schema: TableSchema, groups: Iterator[pa.Table]) -> tuple[bytes, _Measured]:
    sink = pa.BufferOutputStream()
    measured = _Measured(schema)
    with pq.ParquetWriter(sink, schema.file_schema, compression="zstd", store_schema=False) as writer:
        for group in groups:
            measured.add(group)
            writer.write_table(group.combine_chunks(), row_group_size=GROUP)
    return sink.getvalue().to_pybytes(), measured


class _Measured:
    """Counts, least and greatest values of what goes by; raises _OutOfOrder when rows do not stand in log order."""

    def __init__(self, schema: TableSchema) -> None:
        self._schema = schema
        self._least: dict[str, Any] = {}
        self._greatest: dict[str, Any] = {}
        self._nulls = dict.fromkeys(schema.stats, 0)
        self._unsaid: set[str] = set()
        self._last: int | None = None
        self._ordered = {"log_version", "seq"} <= set(schema.file_schema.names)
        self.rows = 0

    def add(self, group: pa.Table) -> None:
        self.rows += group.num_rows
        for name in self._schema.stats:
            column = group.column(name)
            self._nulls[name] += column.null_count
            try:
                found = pc.min_max(column).as_py()
            except OverflowError:
                # A time that no calendar has, in a row that somebody else wrote: nothing is said of it.
                self._unsaid.add(name)
                continue
            if found["min"] is not None:
                self._least[name] = min(found["min"], self._least.get(name, found["min"]))
                self._greatest[name] = max(found["max"], self._greatest.get(name, found["max"]))
        if self._ordered and group.num_rows:
            self._check_order(group)

    def _check_order(self, group: pa.Table) -> None:
        versions = pc.fill_null(group.column("log_version"), -1)
        place = pc.add(pc.multiply(versions, 1 << 24), pc.fill_null(group.column("seq"), 0).cast(pa.int64()))
        if self._last is not None:
            place = pa.chunked_array([pa.array([self._last]), *place.chunks])
        if len(place) > 1 and pc.min(pc.subtract(place.slice(1), place.slice(0, len(place) - 1))).as_py() < 0:
            raise _OutOfOrder
        self._last = place[-1].as_py()

    def stats(self) -> Mapping[str, Any]:
        if not self._schema.stats:
            return {"numRecords": self.rows}
        return {
            "numRecords": self.rows,
            "minValues": {name: _said(value) for name, value in self._least.items() if name not in self._unsaid},
            "maxValues": {name: _said(value) for name, value in self._greatest.items() if name not in self._unsaid},
            "nullCount": self._nulls,
        }


def _said(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return value


# --- committing --------------------------------------------------------------------------------------------------------


class Overtaken(Exception):
    """Somebody else removed one of the files meanwhile: nothing was changed, and what is to be done is another thing now."""


def commit(
    table: DeltaLog,
    contents: Contents,
    removed: Sequence[Added],
    added: Sequence[Added],
    operation: str = "OPTIMIZE",
    rows_leave: bool = False,
) -> int:
    """Exchange files, at whatever version is next; returns it. Appends in between do not matter. Raises Overtaken."""
    commit_id = uuid.uuid4().hex
    now_ms = int(table.now().timestamp() * 1000)
    data = entries.rearrangement(operation, removed, added, now_ms, commit_id, rows_leave)
    leaving = {one.path for one in removed}
    version = contents.version + 1
    while not _put(table, version, data, commit_id):
        while (rival := table.store.get(entry_path(version))) is not None:
            if b'"remove"' in rival and any(gone.path in leaving for gone in entries.parse(version, rival).removed):
                raise Overtaken(f"version {version} of {table.uri}")
            version += 1
    checkpoint = table.checkpoint_version()
    if checkpoint is not None and checkpoint >= version and not _is_alive(table, leaving, added):
        raise Overtaken(f"version {version} of {table.uri} was cleaned away before")
    return version


def _put(table: DeltaLog, version: int, data: bytes, commit_id: str) -> bool:
    try:
        return table.store.put_if_absent(entry_path(version), data)
    except OSError:
        there = table.store.get(entry_path(version))
        if there is None or json.loads(there.splitlines()[0])["commitInfo"]["tailrace"]["commitId"] != commit_id:
            raise
        return True


def _is_alive(table: DeltaLog, leaving: set[str], added: Sequence[Added]) -> bool:
    """Whether whoever reads the table now sees the exchange: a writer that slept can "win" a version of the past."""
    from bus.log.contents import load

    files = load(table).files
    return not leaving & files.keys() and all(one.path in files for one in added)


def check_rows(removed: Sequence[Added], added: Sequence[Added]) -> None:
    """As many rows as before, by what the log says. Raises ForeignLog."""
    before, after = sum(one.rows for one in removed), sum(one.rows for one in added)
    if all(one.rows >= 0 for one in removed) and before != after:
        raise ForeignLog(f"{before} rows by the log, {after} in the data files; nothing was changed")
