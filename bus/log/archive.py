"""An archive, read: the rows that left a table, or an error that names what is missing or spoilt there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bus.errors import ForeignLog, LogMissing, MissingArchive, StoreUnavailable, UnreadableArchive
from bus.log import reading
from bus.log.table import DeltaLog

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from bus.log.store import Location

#: A row's place in the log, which it keeps wherever it is.
KEY = ["log_version", "seq"]


#: What an archive's description says before the id of the table.
_OF = "old days of the table "


class Archive:
    """Where days of a table went. `upto`: the last of them; an archive that ends before is a copy of before."""

    def __init__(self, place: str, table: DeltaLog, upto: str) -> None:
        self.place = place
        self._table = table
        self._schema = table.schema
        self._upto = upto
        self._log = DeltaLog(place if "://" in place else Path(place), table.schema)

    def rows(self, filters: Any, columns: Sequence[str]) -> pa.Table:
        """Rows for which an expression holds; None: all. Raises UnreadableArchive, or StoreUnavailable."""
        opened = self._opened()
        fields = pa.schema([self._schema.arrow.field(name) for name in columns])
        # An archive may be older than a column of the table.
        there = {field.name for field in opened.schema().fields}
        try:
            found = reading.rows(opened, [name for name in fields.names if name in there], filters)
            for field in fields:
                if field.name not in there:
                    found = found.append_column(field, pa.nulls(found.num_rows, field.type))
            return found.select(fields.names).cast(fields)
        except StoreUnavailable:
            raise
        except (OSError, pa.ArrowException) as error:
            raise self._spoilt(opened, error) from error

    def _opened(self) -> DeltaTable:
        name = self._schema.name
        try:
            opened = self._log.open()
        except LogMissing:
            raise MissingArchive(f"older rows of {name} are in the archive {self.place}, and it is not there") from None
        except ForeignLog as error:
            raise UnreadableArchive(
                f"older rows of {name} are in the archive {self.place}, and its log cannot be read{self._where(error)}"
            ) from error
        check_owner(self.place, opened, self._table)
        ends = max((str(day.get("date")) for day in opened.partitions()), default="nothing")
        if not opened.partitions() or ends < self._upto:
            raise UnreadableArchive(
                f"days of {name} up to {self._upto} are in the archive {self.place}, and what is there ends with {ends}: "
                "it is an older copy"
            )
        return opened

    def _where(self, error: ForeignLog) -> str:
        """The entry of the archive's own log that is no JSON, if it is that; deltalake does not say."""
        store = self._log.store
        for name in sorted(store.names("_delta_log")):
            if name.endswith(".json"):
                try:
                    for line in (store.get(f"_delta_log/{name}") or b"").splitlines():
                        json.loads(line)
                except ValueError:
                    return f": the file _delta_log/{name} is spoilt"
        return f" ({_first_line(error)})"

    def _spoilt(self, opened: DeltaTable, error: Exception) -> UnreadableArchive:
        """Arrow does not always name the file; so each is looked at, now that nothing will come of it anyway."""
        for path in pa.table(opened.get_add_actions(flatten=True)).column("path").to_pylist():
            file = unquote(path)
            data = self._log.store.get(file)
            if data is None:
                return UnreadableArchive(f"the archive {self.place} has lost the file {file}")
            try:
                pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
            except (OSError, pa.ArrowException) as spoilt:
                return UnreadableArchive(
                    f"the archive {self.place} has a file that cannot be read, {file}: {_first_line(spoilt)}"
                )
        return UnreadableArchive(f"the archive {self.place} cannot be read: {_first_line(error)}")


def description(table: DeltaLog) -> str:
    """Whose days an archive holds: two tables number their commits alike, and would replace each other's rows."""
    return _OF + table.check()


def check_owner(place: Location, opened: DeltaTable, table: DeltaLog) -> None:
    """Raises MissingArchive when it is another table's. One that says nothing is older than that it would be said."""
    said = opened.metadata().description or ""
    if said.startswith(_OF) and said != description(table):
        raise MissingArchive(
            f"the archive {place} holds days of another table ({said.removeprefix(_OF)}): each home needs an archive of its own"
        )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def beyond(known: pa.Table, more: pa.Table) -> pa.Table:
    """Those of `more` that stand at no place of `known`: a day that is being moved is in the table and the archive."""
    places = more.select(KEY).append_column("row", pa.array(range(more.num_rows), pa.int64()))
    new = places.join(known.select(KEY), KEY, join_type="left anti").column("row")
    # Not taken row by row: text of more than 2 GB cannot be.
    return more if len(new) == more.num_rows else more.filter(pc.is_in(places.column("row"), new.combine_chunks()))
