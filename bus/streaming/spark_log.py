"""agent_messages as Spark keeps it, read the way a log of our own is read: for commands, projections and audits.

Spark says at which version a row was committed; here that is its `log_version`, and every row has a place in its commit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn, Protocol

import pyarrow as pa

from bus.errors import UnfitStore
from bus.log import rows as codec
from bus.log.store import Store
from bus.past import Position, first_of
from bus.streaming.spark_table import ORDER
from schemas.envelope import Message
from schemas.tables import AGENT_MESSAGES

#: What a filter of pyarrow says where it asks for nothing but texts: `(kind == "Ask")`, perhaps several with `and`.
_EQUAL = re.compile(r'\((\w+) == "([^"\\]*)"\)')
_GLUE = re.compile(r"[() ]|and")


class Rows(Protocol):
    """What is asked of a SparkTable."""

    def check(self) -> str: ...

    def head(self) -> int: ...

    def rows(
        self, columns: Sequence[str] | None = None, among: Mapping[str, Sequence[str]] = ..., above: int | None = None
    ) -> pa.Table: ...


class SparkLog:
    """Reads only. `store`: a folder of the home for what is kept beside the table, such as written states."""

    schema = AGENT_MESSAGES

    def __init__(
        self, table: Rows, store: Store, uri: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.table = table
        self.store = store
        self.uri = uri
        self.now = now

    def check(self) -> str:
        """The table's id. Raises LogMissing, or ForeignLog."""
        return self.table.check()

    def head(self) -> int:
        return self.table.head()

    def scan(self, columns: Sequence[str] | None = None, filters: Any = None) -> tuple[pa.Table, int]:
        """Everything there is, in log order, and a version that it holds whole.

        What a filter of pyarrow says of texts is Spark's work; all of it is applied here as well.
        """
        version = self.table.head()
        among = {} if filters is None else {name: [value] for name, value in equalities(filters).items()}
        wanted = None if columns is None or filters is not None else list(columns)
        found = self._placed(wanted, among)
        if filters is not None:
            found = found.filter(filters)
        return (found if columns is None else found.select(list(columns))), version

    def open(self) -> NoReturn:
        """Raises UnfitStore: whoever asks for it wants the files of a log of ours."""
        raise UnfitStore(
            f"this reads the files of a log of our own, and {self.uri} is in Unity Catalog, where Spark keeps them"
        )

    entry = follow = checkpoint_version = append = put = read_file = lambda self, *_, **__: self.open()

    def _placed(self, columns: list[str] | None, among: Mapping[str, Sequence[str]]) -> pa.Table:
        if columns is None or "seq" in columns:
            return placed(self.table.rows(None, among), whole=not among)
        asked = [name for name in columns if name != "log_version"]
        found = self.table.rows(asked, among).sort_by("_commit_version")
        return pa.table({name: found.column(_stored(name)) for name in columns})

    def among(self, column: str, values: Sequence[str], above: int | None = None) -> list[Message]:
        """The rows that have one of these values in a column, in log order."""
        return codec.from_arrow(placed(self.table.rows(None, {column: values}, above), whole=False))


def placed(found: pa.Table, *, whole: bool) -> pa.Table:
    """Rows of a SparkTable in log order, with the columns of agent_messages. `whole`: these are whole commits.

    Whoever writes without our numbering gets the order that `commits` gives; of a part of a commit what it says is kept.
    """
    found = found.sort_by([(key, "ascending") for key in ORDER])
    versions, seqs = found.column("_commit_version").to_pylist(), found.column("seq").to_pylist()
    begin = 0
    for end in range(1, len(versions) + 1):
        if end == len(versions) or versions[end] != versions[begin]:
            places = list(range(end - begin))
            if None in seqs[begin:end] or (whole and sorted(seqs[begin:end]) != places):
                seqs[begin:end] = places
            begin = end
    given = {"log_version": pa.array(versions, pa.int64()), "seq": pa.array(seqs, pa.int32())}
    columns = [given.get(f.name, found.column(f.name)).cast(f.type) for f in AGENT_MESSAGES.arrow]
    return pa.Table.from_arrays(columns, schema=AGENT_MESSAGES.arrow)


def equalities(filters: Any) -> dict[str, str]:
    """Texts that a filter asks for and nothing else beside them; {} where it says anything more."""
    said = str(filters)
    found = _EQUAL.findall(said)
    rest = _GLUE.sub("", _EQUAL.sub("", said))
    known = {column.name for column in AGENT_MESSAGES.columns if column.type == "string"}
    if rest or len(dict(found)) != len(found) or not {name for name, _ in found} <= known:
        return {}
    return dict(found)


def _stored(name: str) -> str:
    return "_commit_version" if name == "log_version" else name


class SparkPast:
    """What the log said before a client came, by queries of Spark."""

    def __init__(self, log: SparkLog) -> None:
        self._log = log

    def note(self, message_ids: Sequence[str]) -> None:
        return

    def by_id(self, message_ids: Sequence[str]) -> dict[str, Message]:
        return first_of(self._log.among("message_id", message_ids)) if message_ids else {}

    def events(self, kinds: Sequence[str], after: Position) -> Iterator[list[Message]]:
        rows = self._log.among("kind", kinds, after[0] - 1)
        yield [row for row in rows if row.message_type == "event" and row.position > after]
