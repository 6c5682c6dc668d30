"""Rows of the log where they really stand: in the entry that brought them, whatever a row, or a file's statistics, say of it.

Hosts go by the entry, and so does compaction. An auditor who went by what a row says could be told by anybody who can write
a file, without any key, that rows had come into a past which was anchored already.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc

from bus.log.archive import KEY, beyond
from bus.log.compaction import is_placed, placed
from bus.log.contents import Contents
from bus.log.entry import Added
from bus.log.retention import archives, older
from bus.log.table import DeltaLog

#: Files of an object store that are fetched at once.
_REQUESTS = 16


def rows(source: DeltaLog, there: Contents, after: int = -1) -> pa.Table:
    """All rows of versions above `after` that there ever were, those in the archives included; each once, in log order.

    Raises ForeignLog when a data file is gone, LogError when an archive is not there.
    """
    wanted = [one for one in there.files.values() if one.span is None or one.span[1] > after]
    found = [source.schema.arrow.empty_table()]
    if source.store.lists_at_once:
        with ThreadPoolExecutor(_REQUESTS, thread_name_prefix="table-files") as pool:
            found += pool.map(lambda one: of_file(source, one), wanted)
    else:
        found += [of_file(source, one) for one in wanted]
    known = pa.concat_tables(found)
    if archives(source):
        version = pc.field("log_version")
        past = beyond(known, older(source, version.is_null() | (version > after)))
        known = pa.concat_tables([known, past.select(known.column_names).cast(known.schema)])
    if after >= 0:
        known = known.filter(pc.greater(known.column("log_version"), after))
    return in_order(known)


def of_file(source: DeltaLog, one: Added) -> pa.Table:
    """The rows of one data file."""
    found = source.read_file(one)
    if one.span is None or one.span[0] != one.span[1] or is_placed(found, one.span[0]):
        return found
    if not _is_signed(found):
        return placed(source.schema, found, one.span)
    # Of rows that somebody signed, one may be gone: the numbers of the others tell, and stay.
    version = pa.repeat(pa.scalar(one.span[0], pa.int64()), found.num_rows)
    return found.set_column(found.schema.get_field_index("log_version"), "log_version", version)


def in_order(rows: pa.Table) -> pa.Table:
    """Rows that know no place come first."""
    keys = pa.table({name: pc.fill_null(rows.column(name), -1) for name in KEY})
    return rows.take(pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in KEY]))


def _is_signed(rows: pa.Table) -> bool:
    """Whether any of them says it is."""
    return bool(rows.column("signature").null_count < rows.num_rows)
