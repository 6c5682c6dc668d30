"""Retention: days that are old leave the table, for the archive; conversations that go on, or wait, stay whole.

The archive is an ordinary Delta table a bus table, partitioned by day, which any Delta reader opens. Rows leave only after
they were read back from it. A crash between the two leaves rows in both places; the next run finds them there. A day goes to
the archive in parts, so that it need not be in memory, and leaves the table in one commit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import reduce
from operator import and_
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from bus.errors import LogError
from bus.log import compaction, contents, reading
from bus.log.archive import KEY, Archive, beyond, check_owner, description
from bus.log.store import within

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from bus.fold import State
    from bus.log.entry import Added
    from bus.log.store import Location
    from bus.log.table import DeltaLog

log = structlog.get_logger(__name__)

NOTE = "_tailrace/archived.json"
#: Rows, or bytes, that are in memory at once, as far as row groups allow.
PART_ROWS = compaction.GROUP
PART_BYTES = 64 << 20


@dataclass
class Retained:
    """What one run did: days that lost rows, rows that left, rows of these days that stayed with their conversations."""

    table: str
    days: list[str] = field(default_factory=list)
    rows: int = 0
    stayed: int = 0
    archive: str | None = None


def retain(
    table: DeltaLog, days: int, archive: Location | None, *, state: State | None = None, upto: int | None = None
) -> Retained:
    """Move what is older than `days` days to `archive`; None discards it. Raises LogError when the archive does not hold it.

    `state`: of agent_messages, what is open. `upto`: the version that every projection has come to; later rows stay.
    """
    done = Retained(table.schema.name, archive=None if archive is None else str(within(archive, table.schema.name)))
    cutoff = (table.now().date() - timedelta(days=days)).isoformat()
    there = contents.load(table)
    old: dict[str, list[Added]] = {}
    for one in there.files.values():
        if (day := one.partition.get("date")) is not None and day < cutoff:
            old.setdefault(day, []).append(one)
    stays = _conversations(table, cutoff, state) if old and state is not None else None
    for day in sorted(old):
        files = sorted(old[day], key=lambda one: (one.span or (-1, -1), one.path))
        if upto is not None and any(one.span is None or one.span[1] > upto for one in files):
            log.warning("retention.waits_for_projections", table=table.uri, day=day)
            break
        _retain_day(table, there, day, files, stays, archive, done)
    return done


def _retain_day(
    table: DeltaLog,
    there: contents.Contents,
    day: str,
    files: list[Added],
    stays: pa.Array | None,
    archive: Location | None,
    done: Retained,
) -> None:
    place = None if archive is None else within(archive, table.schema.name)
    left = stayed = 0
    for part in _parts(table, files):
        staying, leaving = _split(part, stays)
        stayed, left = stayed + staying.num_rows, left + leaving.num_rows
        if place is not None and leaving.num_rows:
            _archive(place, table, leaving, day)
    if not left:
        return
    _note(table, done.archive, day)
    # Read again: whether anything leaves at all is known only now, and what stays would else be written for nothing.
    kept = (_split(part, stays)[0] for part in _parts(table, files)) if stayed else ()
    added = [compaction.rewrite(table, files, part) for part in kept if part.num_rows]
    if sum(one.rows for one in added) != stayed:
        raise LogError(f"{table.uri}: the files of {day} changed while they were read; nothing was removed")
    compaction.commit(table, there, files, added, "DELETE", rows_leave=True)
    done.days.append(day)
    done.rows += left
    done.stayed += stayed


def _parts(table: DeltaLog, files: Sequence[Added]) -> Iterator[pa.Table]:
    """All rows of these files, some at a time."""
    waiting: list[pa.Table] = []
    rows = size = 0
    for one in files:
        for group in _groups(table, one):
            waiting.append(group)
            rows, size = rows + group.num_rows, size + group.nbytes
            if rows >= PART_ROWS or size >= PART_BYTES:
                yield pa.concat_tables(waiting)
                waiting, rows, size = [], 0, 0
    if waiting:
        yield pa.concat_tables(waiting)


def _groups(table: DeltaLog, one: Added) -> Iterator[pa.Table]:
    if one.span is not None and one.span[0] == one.span[1]:
        # One commit's, which a stranger may have written: where its rows stand is seen from all of them.
        yield compaction.placed(table.schema, table.read_file(one), one.span)
    else:
        yield from table.read_groups(one)


def _split(rows: pa.Table, stays: pa.Array | None) -> tuple[pa.Table, pa.Table]:
    """(rows that stay, rows that leave)."""
    if stays is None:
        return rows.slice(0, 0), rows
    kept = pc.is_in(rows.column("correlation_id"), stays)
    return rows.filter(kept), rows.filter(pc.invert(kept))


def _conversations(table: DeltaLog, cutoff: str, state: State) -> pa.Array:
    """Conversations that have a row which is not old, that somebody waits for, or that others depend on."""
    names = {message.correlation_id for message in (*state.open.values(), *state.leases.values())}
    names.update(_newest_instances(table))
    recent, _ = table.scan(columns=["correlation_id"], filters=pc.field("date") >= date.fromisoformat(cutoff))
    names.update(pc.unique(recent.column("correlation_id")).to_pylist())
    return pa.array(sorted(name for name in names if name is not None), pa.string())


def _newest_instances(table: DeltaLog) -> list[str]:
    """Conversations in which an agent last said what it subscribes to: events wait for it though no instance of it runs."""
    wanted = (pc.field("kind") == "InstanceChanged") & (pc.field("message_type") == "event")
    rows, _ = table.scan(columns=["from_agent", "correlation_id", "log_version", "content"], filters=wanted)
    newest: dict[str, tuple[int, str]] = {}
    for row in rows.filter(pc.match_substring(rows.column("content"), '"step":"started"')).to_pylist():
        found = (row["log_version"] or -1, row["correlation_id"])
        newest[row["from_agent"]] = max(found, newest.get(row["from_agent"], found))
    return [conversation for _, conversation in newest.values()]


# --- the archive -------------------------------------------------------------------------------------------------------


def _archive(place: Location, table: DeltaLog, rows: pa.Table, day: str) -> None:
    """Between its first and its last version, the day in the archive is what it was there, and these rows. Raises LogError
    when that cannot be read back."""
    from deltalake import write_deltalake

    span = _span(rows)
    there = read_archive(place, table, day, span)
    known = there is not None and there.num_rows > 0
    wanted = rows
    options: dict[str, Any] = {"mode": "append", "schema_mode": "merge", "description": description(table)}
    if known:
        wanted = pa.concat_tables([beyond(rows, there).select(table.schema.arrow.names), rows])
        options |= {"mode": "overwrite", "predicate": _predicate(day, span)}
    wanted = wanted.sort_by([(name, "ascending") for name in KEY])
    if known and _same(there, wanted):
        return  # a run before this one came so far
    if isinstance(place, Path):
        place.mkdir(parents=True, exist_ok=True)
    write_deltalake(str(place), wanted, partition_by=["date"], name=table.schema.name, **options)
    found = read_archive(place, table, day, span)
    if found is None or not _same(found, wanted):
        raise LogError(
            f"the archive {place} does not hold the rows of {day} that were just written to it; nothing was removed"
        )


def _span(rows: pa.Table) -> tuple[int, int] | None:
    """First and last version; None when not every row has one."""
    versions = rows.column("log_version")
    return None if versions.null_count else (pc.min(versions).as_py(), pc.max(versions).as_py())


def _predicate(day: str, span: tuple[int, int] | None) -> str:
    between = "" if span is None else f" AND log_version >= {span[0]} AND log_version <= {span[1]}"
    return f"date = '{day}'{between}"


def _same(found: pa.Table, written: pa.Table) -> bool:
    by = [(name, "ascending") for name in KEY]
    return found.sort_by(by).combine_chunks().equals(written.sort_by(by).combine_chunks())


def read_archive(
    place: Location, table: DeltaLog, day: str | None = None, span: tuple[int, int] | None = None
) -> pa.Table | None:
    """Rows of the archive that is written to: of one day or all, of some versions; None when there is none yet.

    Raises MissingArchive when it is another table's.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:
        opened = DeltaTable(str(place))
    except TableNotFoundError:
        return None
    check_owner(place, opened, table)
    wanted = []
    if day is not None:
        wanted.append(pc.field("date") == date.fromisoformat(day))
    if span is not None:
        wanted.append((pc.field("log_version") >= span[0]) & (pc.field("log_version") <= span[1]))
    found = reading.rows(opened, filters=reduce(and_, wanted) if wanted else None)
    for column in table.schema.arrow:  # an archive may be older than a column of the table
        if column.name not in found.column_names:
            found = found.append_column(column, pa.nulls(found.num_rows, column.type))
    return found.select(table.schema.arrow.names).cast(table.schema.arrow)


def _note(table: DeltaLog, archive: str | None, day: str) -> None:
    """Where the past went, for whoever asks the table for it."""
    note = archives(table)
    key = archive or ""
    note[key] = max(day, note.get(key, ""))
    table.store.replace(NOTE, json.dumps(note, indent=1).encode())


def archives(table: DeltaLog) -> dict[str, str]:
    """Archive -> the last day that left for it; an empty name: for nowhere."""
    found: dict[str, str] = json.loads(table.store.get(NOTE) or b"{}")
    return found


def everything(table: DeltaLog, opened: DeltaTable | None = None) -> pa.Table:
    """All rows there ever were, those in the archives included; each once. `opened`: the table, if it is open already.

    Raises UnreadableArchive.
    """
    rows = reading.rows(opened or table.open())
    left = older(table)
    return pa.concat_tables([rows, beyond(rows, left).select(rows.column_names).cast(rows.schema)])


def older(table: DeltaLog, filters: Any = None, columns: Sequence[str] | None = None) -> pa.Table:
    """Rows of the archives for which this expression holds, each once, with their places. Raises UnreadableArchive."""
    names = table.schema.arrow.names if columns is None else list(dict.fromkeys([*columns, *KEY]))
    found = table.schema.arrow.empty_table().select(names)
    for place, upto in archives(table).items():
        if place:  # else that is where days go that nobody keeps
            found = pa.concat_tables([found, beyond(found, Archive(place, table, upto).rows(filters, names))])
    return found
