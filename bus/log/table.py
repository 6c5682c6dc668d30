"""A Delta table as an append-only log: create it, find its head, put the next version if absent, read an entry's rows."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from bus.errors import ForeignLog, LogMissing, StoreUnavailable, UnfitStore
from bus.log import entry as entries
from bus.log import reading
from bus.log.entry import Added, Entry, entry_path
from bus.log.object_store import open_store
from bus.log.store import Durability, Location, Store
from schemas.columns import TableSchema

if TYPE_CHECKING:
    from deltalake import DeltaTable

Now = Callable[[], datetime]


#: Requests under way at once, where a log is read over a network.
_REQUESTS = 16
_DEFINING = ("protocol", "metaData")
#: Far below the age at which clean-up deletes a file that no entry names.
_LONG = timedelta(hours=1)


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Encoded:
    """The rows of a commit as they are stored: a parquet file, and what its entry says about it.

    `decided`: decisions among the rows. `inline`: the rows once more, for whoever follows entry by entry.
    """

    data: bytes
    rows: int
    stats: Mapping[str, Any]
    decided: Sequence[str] = ()
    inline: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Put:
    """The outcome of trying one version. Lost: another's entry is there; absorb it and decide again."""

    version: int
    won: bool


class DeltaLog:
    """One table. Not tied to messages: projections and knowledge are logs as well. Safe for several threads."""

    def __init__(
        self, location: Location | Store, schema: TableSchema, durability: Durability = "os", now: Now = utc_now
    ) -> None:
        """`location`: a folder, the URL of a place in an object store, or a store that was opened already."""
        self.schema = schema
        self.now = now
        self.store: Store = open_store(location, durability) if isinstance(location, (Path, str)) else location

    @property
    def uri(self) -> str:
        """How any Delta reader names this table."""
        return self.store.uri

    @property
    def path(self) -> Path:
        """The folder of the table. Only for what needs a file system; everything else goes through `store` and `open`."""
        if "://" in self.store.uri:
            raise UnfitStore(f"this needs a table in a folder, and {self.store.uri} is in an object store")
        return Path(self.store.uri)

    # --- opening ---------------------------------------------------------------------------------------------------

    def create(self) -> None:
        """Write version 0 unless the table is there; then check that it is one of ours. Raises ForeignLog."""
        if self.store.exists(entry_path(0)) or self.checkpoint_version() is not None:
            self.widen()
            self.check()
            return
        self.store.check()
        data = entries.creation(self.schema, str(uuid.uuid4()), self._now_ms(), uuid.uuid4().hex)
        self.store.put_if_absent(entry_path(0), data)
        self.check()

    def widen(self) -> bool:
        """Add the columns that a table of an older release lacks; whether there were any. Nobody older may write it any more."""
        while True:
            head = self.head()
            protocol, metadata = self.definition()
            entries.check_protocol(protocol)
            if not self.schema.widens or not entries.missing_columns(metadata, self.schema):
                return False
            data = entries.widening(metadata, self.schema, self._now_ms(), uuid.uuid4().hex)
            if self.store.put_if_absent(entry_path(head + 1), data):
                return True

    def check(self) -> str:
        """The table's id. Raises LogMissing, or ForeignLog when its protocol or columns are not what we write."""
        protocol, metadata = self.definition()
        entries.check_protocol(protocol)
        try:
            entries.check_metadata(metadata, self.schema)
        except ForeignLog as error:
            raise ForeignLog(f"{self.uri}: {error}") from None
        return str(metadata["id"])

    def definition(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Protocol and metadata as they are now: a later entry may have changed what the first one said.

        Raises LogMissing.
        """
        found: dict[str, Any] = {}
        checkpoint = self.checkpoint_version()
        if checkpoint is not None:
            data = self.store.get(f"_delta_log/{checkpoint:020d}.checkpoint.parquet")
            if data is None:
                raise ForeignLog(f"{self.uri} has lost its checkpoint {checkpoint}; restore it from a backup")
            actions = pq.read_table(pa.BufferReader(data), columns=["protocol", "metaData"])
            for action in actions.to_pylist(maps_as_pydicts="strict"):
                found |= {key: action[key] for key in _DEFINING if action.get(key)}
        for version, data in self._entries_after(-1 if checkpoint is None else checkpoint):
            found |= entries.definition(version, data)
        if not all(key in found for key in _DEFINING):
            raise LogMissing(f"no log at {self.uri}: run `tailrace init`")
        return found["protocol"], found["metaData"]

    def _entries_after(self, version: int) -> Iterator[tuple[int, bytes]]:
        """Entries as bytes, without a gap; many at a time where each is a request, so that a long log is not a long wait."""
        if not self.store.lists_at_once:
            while (data := self.store.get(entry_path(version + 1))) is not None:
                version += 1
                yield version, data
            return
        with ThreadPoolExecutor(_REQUESTS, thread_name_prefix="log-entries") as pool:
            wanted = range(version + 1, self._newest_listed(version) + 1)
            for number, data in zip(wanted, pool.map(self.store.get, map(entry_path, wanted)), strict=True):
                if data is None:
                    return
                yield number, data

    def _newest_listed(self, above: int) -> int:
        """The newest version that a listing shows; `above` when it shows none."""
        names = self.store.names("_delta_log", f"{above:020d}.json" if above >= 0 else "")
        return max([above, *(int(name[:20]) for name in names if name.endswith(".json") and name[:20].isdigit())])

    # --- versions --------------------------------------------------------------------------------------------------

    def exists(self, version: int) -> bool:
        return self.store.exists(entry_path(version))

    def head(self, known: int = -1) -> int:
        """The newest version: by a listing where that is one request, else from `known` by doubling steps and bisection."""
        by_listing = self.store.lists_at_once
        if not by_listing and (known < 0 or not self.exists(known)):
            known = self._newest_listed(-1)
        # Below the checkpoint may be gaps, and entries that a writer who slept put into one.
        checkpoint = self.checkpoint_version()
        known = max(known, -1 if checkpoint is None else checkpoint)
        if by_listing:
            known = self._newest_listed(known)
        if known < 0:
            raise LogMissing(f"no log at {self.uri}: run `tailrace init`")
        step = 0 if by_listing else 1
        while step and self.exists(known + step):
            known += step
            step *= 2
        while step > 1:
            step //= 2
            if self.exists(known + step):
                known += step
        return known

    def entry(self, version: int) -> Entry | None:
        data = self.store.get(entry_path(version))
        return None if data is None else entries.parse(version, data)

    def checkpoint_version(self) -> int | None:
        """The newest checkpoint; entries below it may have been cleaned away."""
        data = self.store.get("_delta_log/_last_checkpoint")
        if data is None:
            return None
        try:
            return int(json.loads(data)["version"])
        except (ValueError, KeyError, TypeError):
            # A hint that somebody spoilt; the files themselves say it as well, at the price of a listing.
            names = self.store.names("_delta_log")
            return max(
                (int(name[:20]) for name in names if ".checkpoint." in name and name[:20].isdigit()), default=None
            )

    # --- appending -------------------------------------------------------------------------------------------------

    def put(
        self,
        version: int,
        rows: pa.Table,
        *,
        txns: Mapping[str, int] | None = None,
        stats: Mapping[str, Any] | None = None,
    ) -> Put:
        """Try to be `version`. `rows` have the file schema. Never overwrites; raises OSError when the disk says no."""
        encoded = Encoded(parquet(rows), rows.num_rows, stats or {}) if rows.num_rows else None
        return self.put_encoded(version, encoded, txns)

    def put_encoded(self, version: int, rows: Encoded | None, txns: Mapping[str, int] | None = None) -> Put:
        """The same with rows that are a file already; None: no rows at all."""
        now = self.now()
        now_ms = int(now.timestamp() * 1000)
        commit_id = uuid.uuid4().hex
        added: tuple[Added, ...] = ()
        if rows is not None:
            partition = {name: now.date().isoformat() for name in self.schema.partition_by}
            path = entries.data_path(partition, f"part-{commit_id}.parquet")
            self.store.put(path, rows.data)
            added = (Added(path, partition, len(rows.data), rows.rows, {"numRecords": rows.rows, **rows.stats}),)
        decided, inline = (rows.decided, rows.inline) if rows else ((), ())
        entry = entries.append(added, now_ms, commit_id, txns or {}, decided, inline)
        try:
            won = self.store.put_if_absent(entry_path(version), entry)
        except OSError:
            # Not knowing is settled by reading: whose entry is there?
            there = self.entry(version)
            if there is None or there.commit_id != commit_id:
                raise
            won = True
        if not won and added and not self.store.lists_at_once:
            # Where deleting is cheap, whoever lost takes its rows with it; elsewhere clean-up finds them.
            self.store.delete(added[0].file)
        if won:
            won = self._in_the_living_log(version, added, txns or {})
        if won and rows and self.now() - now > _LONG and not self.store.exists(added[0].file):
            # We slept between the two files, and clean-up took the first for that of a writer who died.
            self.store.put(added[0].file, rows.data)
        return Put(version, won)

    def _in_the_living_log(self, version: int, added: Sequence[Added], txns: Mapping[str, int]) -> bool:
        """A writer that slept can "win" a version that was cleaned away: nobody would ever read it."""
        checkpoint = self.checkpoint_version()
        if checkpoint is None or checkpoint < version:
            return True
        from bus.log import cleanup, contents

        there = contents.load(self)
        if any(there.txns.get(app, -1) < reached for app, reached in txns.items()):
            return False
        gone = [one for one in added if one.path not in there.files]
        removed = cleanup.removed_paths(self) if gone else set()
        # It may have been compacted already. Only such a file is deleted; one that was never seen is spared for a day.
        return all(one.path in removed or not self.store.exists(one.file) for one in gone)

    def append(self, rows: pa.Table, txns: Mapping[str, int] | None = None) -> int:
        """Append blindly at whatever version is next; returns it."""
        version = self.head() + 1
        while not self.put(version, rows, txns=txns).won:
            version = self.head(version) + 1
        return version

    # --- reading ---------------------------------------------------------------------------------------------------

    def read(self, entry: Entry, shared: Sequence[str] = ()) -> pa.Table:
        """The rows of one entry, with the partition columns. `shared`: columns of text that come as dictionaries."""
        parts = [self.read_file(one, shared) for one in entry.added]
        return pa.concat_tables(parts) if parts else self.schema.arrow.empty_table()

    def read_file(self, added: Added, shared: Sequence[str] = ()) -> pa.Table:
        with self._opened(added, shared) as file:
            return self._completed(file.read(use_threads=False), added, shared)

    def read_groups(self, added: Added) -> Iterator[pa.Table]:
        """The same rows, a row group at a time: a large file need not be in memory whole."""
        with self._opened(added) as file:
            for place in range(file.num_row_groups):
                yield self._completed(file.read_row_group(place, use_threads=False), added)

    @contextmanager
    def _opened(self, added: Added, shared: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
        """Raises ForeignLog when it is gone, or what is read of it is no Parquet of this table's."""
        data = self.store.get(added.file)
        if data is None:
            raise ForeignLog(f"{self.uri} has lost the data file {added.file}; restore it from a backup")
        try:
            yield _parquet_file(data, shared)
        except pa.ArrowException as error:
            raise ForeignLog(
                f"{self.uri}: the data file {added.file} is not what this table holds ({error}); restore it from a backup"
            ) from error

    def _completed(self, table: pa.Table, added: Added, shared: Sequence[str] = ()) -> pa.Table:
        """With the partition's columns, and with null for columns the file does not have, as Delta defines it."""
        there = set(table.column_names)
        columns = []
        for field in self.schema.arrow:
            if field.name in there:
                column = table.column(field.name)
                is_right = column.type == field.type or (field.name in shared and column.type == _SHARED)
                columns.append(column if is_right else column.cast(field.type))
            else:
                value = added.partition.get(field.name) if field.name in self.schema.partition_by else None
                columns.append(pa.repeat(pa.scalar(value, pa.string()).cast(field.type), table.num_rows))
        if shared:
            return pa.Table.from_arrays(columns, names=self.schema.arrow.names)
        return pa.Table.from_arrays(columns, schema=self.schema.arrow)

    def scan(self, columns: Sequence[str] | None = None, filters: Any = None) -> tuple[pa.Table, int]:
        """Everything there is, and the version it was read at, by an ordinary Delta reader."""
        table = self.open()
        known = {field.name for field in table.schema().fields}
        wanted = [name for name in columns if name in known] if columns else None
        found = reading.rows(table, wanted, filters)
        for name in columns or ():
            if name not in known:  # the table is an older release's, and nobody has widened it yet
                found = found.append_column(name, pa.nulls(found.num_rows, self.schema.arrow.field(name).type))
        return found, table.version()

    def open(self) -> DeltaTable:
        """As any Delta reader sees it: the only way a bus table is opened by deltalake. Raises LogMissing, ForeignLog."""
        import stamina
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        def is_passing(error: Exception) -> bool:
            return isinstance(error, DeltaError) and not isinstance(error, TableNotFoundError)

        # A folder listing is no snapshot: while commits land, it can show version N+2 without N+1.
        try:
            for attempt in stamina.retry_context(on=is_passing, attempts=10, wait_initial=0.01, wait_max=0.5):
                with attempt:
                    return DeltaTable(self.uri)
        except TableNotFoundError as error:
            raise LogMissing(f"no log at {self.uri}: run `tailrace init`") from error
        except DeltaError as error:
            raise ForeignLog(
                f"{self.uri} cannot be read as a Delta table ({error}); restore it from a backup"
            ) from None
        except OSError as error:
            if self.store.watched is not None:
                raise
            raise StoreUnavailable(f"{self.uri} cannot be reached: {' '.join(str(error).split())[:300]}") from error
        raise AssertionError("unreachable: the retry either returns or raises")

    def follow(self, after: int) -> Iterator[tuple[Entry, pa.Table]]:
        """Entries above `after`, as far as they exist now."""
        version = after + 1
        while (entry := self.entry(version)) is not None:
            yield entry, self.read(entry)
            version += 1

    def _now_ms(self) -> int:
        return int(self.now().timestamp() * 1000)


#: What a column of text is read as when its values are shared.
_SHARED = pa.dictionary(pa.int32(), pa.string())

#: Columns whose values hardly repeat: a dictionary of them is a second copy.
VARIED = frozenset(
    (
        "message_id",
        "correlation_id",
        "causation_id",
        "content",
        "timestamp",
        "traceparent",
        "signature",
        "seq",
        "handling_id",
    )
)


#: Columns of hashes and random ids, which no compression makes shorter.
RANDOM = frozenset(("message_id", "correlation_id", "causation_id", "traceparent", "signature"))


def _parquet_file(data: bytes, shared: Sequence[str]) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(pa.BufferReader(data), read_dictionary=list(shared))
    except KeyError:  # a file need not have every column
        return pq.ParquetFile(pa.BufferReader(data))


def parquet(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    small = rows.num_rows < 1000
    # What comes as a dictionary is written as one. Of the rest, values that hardly repeat make no good one.
    given = {field.name for field in rows.schema if pa.types.is_dictionary(field.type)}
    # A commit of a few rows is all overhead: dictionaries and statistics cost more than they save.
    pq.write_table(
        rows,
        sink,
        compression="none" if small else {n: "none" if n in RANDOM else "snappy" for n in rows.column_names},
        use_dictionary=list(given) if small else [n for n in rows.column_names if n in given or n not in VARIED],
        write_statistics=False,
        store_schema=False,
    )
    return sink.getvalue().to_pybytes()
