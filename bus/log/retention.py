"""Retention: days that are old leave the table, for the archive; conversations that go on, or wait, stay whole.

The archive is an ordinary Delta table a bus table, partitioned by day, which any Delta reader opens. Rows leave only after
they were read back from it. A crash between the two leaves rows in both places; the next run finds them there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from bus.errors import LogError
from bus.log import compaction, contents, reading
from bus.log.store import within

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from bus.fold import State
    from bus.log.entry import Added
    from bus.log.store import Location
    from bus.log.table import DeltaLog

log = structlog.get_logger(__name__)

NOTE = "_tailrace/archived.json"
KEY = ["log_version", "seq"]


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
        files = sorted(old[day], key=lambda one: one.path)
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
    rows = pa.concat_tables([compaction.placed(table.schema, table.read_file(one), one.span) for one in files])
    staying = rows.slice(0, 0)
    if stays is not None:
        kept = pc.is_in(rows.column("correlation_id"), stays)
        staying, rows = rows.filter(kept), rows.filter(pc.invert(kept))
    if rows.num_rows == 0:
        return
    if archive is not None:
        _archive(within(archive, table.schema.name), table, rows, day)
    _note(table, done.archive, day)
    added = [compaction.rewrite(table, files, staying)] if staying.num_rows else []
    compaction.commit(table, there, files, added, "DELETE", rows_leave=True)
    done.days.append(day)
    done.rows += rows.num_rows
    done.stayed += staying.num_rows


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
    """The day in the archive is what it was there, and these rows. Raises LogError when it cannot be read back."""
    from deltalake import write_deltalake

    there = read_archive(place, table, day)
    if there is not None:
        rows_before = there.join(rows.select(KEY), KEY, join_type="left anti").select(table.schema.arrow.names)
        both = pa.concat_tables([rows_before, rows])
    else:
        both = rows
    options: dict[str, Any] = (
        {"mode": "overwrite", "predicate": f"date = '{day}'"} if there is not None else {"mode": "append"}
    )
    ordered = both.sort_by([(name, "ascending") for name in KEY])
    if isinstance(place, Path):
        place.mkdir(parents=True, exist_ok=True)
    write_deltalake(str(place), ordered, partition_by=["date"], name=table.schema.name, **options)
    found = read_archive(place, table, day)
    if found is None or not _same(found, ordered):
        raise LogError(
            f"the archive {place} does not hold the rows of {day} that were just written to it; nothing was removed"
        )


def _same(found: pa.Table, written: pa.Table) -> bool:
    by = [(name, "ascending") for name in KEY]
    return found.sort_by(by).combine_chunks().equals(written.sort_by(by).combine_chunks())


def read_archive(place: Location, table: DeltaLog, day: str | None = None) -> pa.Table | None:
    """Rows of the archive, of one day or all; None when there is none yet."""
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:
        opened = DeltaTable(str(place))
    except TableNotFoundError:
        return None
    filters = None if day is None else pc.field("date") == date.fromisoformat(day)
    return reading.rows(opened, filters=filters).select(table.schema.arrow.names).cast(table.schema.arrow)


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

    Raises LogError when an archive is not there.
    """
    rows = reading.rows(opened or table.open())
    for place in archives(table):
        if not place:
            continue
        there = read_archive(place if "://" in place else Path(place), table)
        if there is None:
            raise LogError(f"older rows of {table.schema.name} are in the archive {place}, and it is not there")
        known = rows.select(KEY)
        rows = pa.concat_tables(
            [rows, there.join(known, KEY, join_type="left anti").select(rows.column_names).cast(rows.schema)]
        )
    return rows
