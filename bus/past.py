"""What the log said before a client came: messages by id, and events by kind. Read from the table, never from a state."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from bus.errors import LogError
from bus.ids import IdSet
from schemas.envelope import Message

if TYPE_CHECKING:
    from bus.log.table import DeltaLog
    from bus.memory import MemoryLog

#: (log_version, seq): a place in the log.
Position = tuple[int, int]

#: Events read into memory at once.
CHUNK = 5_000
#: Look-ups by id that each read the table, before all ids are read once and kept.
SINGLE_LOOKUPS = 3
#: Ids that are kept then, newest first.
IDS_KEPT = 2_000_000


class Past(Protocol):
    """A log's past. Rows come in log order; signatures are the caller's to check."""

    def by_id(self, message_ids: Sequence[str]) -> dict[str, Message]:
        """Of each id that is in the log, the first row."""
        ...

    def note(self, message_ids: Sequence[str]) -> None:
        """These are in the log now, and nobody else will say so."""
        ...

    def events(self, kinds: Sequence[str], after: Position) -> Iterator[list[Message]]:
        """Events of these kinds behind a place, chunk by chunk, as far as the log reaches now."""
        ...


class TablePast:
    """The past of a Delta log. `seen`: whether an id was seen since `bus` began to follow it."""

    def __init__(self, table: DeltaLog, seen: Callable[[str], bool], partial: bool) -> None:
        self._table = table
        self._seen = seen
        self._partial = partial
        self._lookups = 0
        self._ids: IdSet | None = None
        self._noted = IdSet(IDS_KEPT)

    def note(self, message_ids: Sequence[str]) -> None:
        for message_id in message_ids:
            self._noted.add(message_id)

    def by_id(self, message_ids: Sequence[str]) -> dict[str, Message]:
        from pyarrow import compute as pc

        asked = [message_id for message_id in message_ids if self._may_be_there(message_id)]
        return first_of(self._read(pc.field("message_id").isin(asked))) if asked else {}

    def _may_be_there(self, message_id: str) -> bool:
        """False is certain. A producer who names every message must not read the table for each of them."""
        if self._seen(message_id) or message_id in self._noted:
            return True
        if not self._partial:
            return False
        if self._ids is None:
            self._lookups += 1
            if self._lookups <= SINGLE_LOOKUPS:
                return True
            found, _ = self._table.scan(columns=["message_id"])
            self._ids = IdSet(IDS_KEPT)
            for known in found.column("message_id").to_pylist():
                self._ids.add(known)
        return message_id in self._ids

    def events(self, kinds: Sequence[str], after: Position) -> Iterator[list[Message]]:
        from pyarrow import compute as pc

        version = pc.field("log_version")
        wanted = (pc.field("message_type") == "event") & pc.field("kind").isin(list(kinds)) & (version >= after[0])
        versions, _ = self._table.scan(columns=["log_version"], filters=wanted)
        places = sorted(versions.column("log_version").to_pylist())
        start = 0
        while start < len(places):
            # Whole commits only: a chunk ends where its last row's commit ends.
            last = places[min(start + CHUNK, len(places)) - 1]
            rows = self._read(wanted & (version >= places[start]) & (version <= last))
            yield [row for row in rows if row.position > after]
            start = bisect_right(places, last, lo=start)

    def _read(self, filters: Any) -> list[Message]:
        from bus.log import rows as codec

        found, _ = self._table.scan(filters=filters)
        return codec.from_arrow(found)


class NoPast:
    """Of a bus whose past cannot be looked up from here. Its fold still drops a message that was sent twice."""

    def by_id(self, message_ids: Sequence[str]) -> dict[str, Message]:
        raise LogError(
            "this bus cannot look up earlier messages: open the client by its home, or send without ids of your own"
        )

    def note(self, message_ids: Sequence[str]) -> None:
        return

    def events(self, kinds: Sequence[str], after: Position) -> Iterator[list[Message]]:
        raise LogError("this bus cannot read earlier events: subscribe from now on, or open the client by its home")


class MemoryPast:
    """The past of a log in memory."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def note(self, message_ids: Sequence[str]) -> None:
        return

    def by_id(self, message_ids: Sequence[str]) -> dict[str, Message]:
        asked = set(message_ids)
        return first_of(row for row in self._rows() if row.message_id in asked)

    def events(self, kinds: Sequence[str], after: Position) -> Iterator[list[Message]]:
        yield [
            row for row in self._rows() if row.message_type == "event" and row.kind in kinds and row.position > after
        ]

    def _rows(self) -> Iterator[Message]:
        with self._log.lock:
            commits = list(self._log.commits)
        return (row for commit in commits for row in commit)


def first_of(rows: Iterable[Message]) -> dict[str, Message]:
    found: dict[str, Message] = {}
    for row in rows:
        found.setdefault(row.message_id, row)
    return found
