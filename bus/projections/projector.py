"""The projector: follows agent_messages and appends what each projection makes of it, exactly once.

The position is a `txn` action (appId `projector:<table>`, version = source version) in the same commit as the rows: a
crash before it loses nothing, a crash after it repeats nothing, and of two projectors the slower one finds itself late.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import structlog

from bus.base import Arrival, Bus
from bus.log import rows as codec
from bus.log.table import DeltaLog
from schemas.columns import TableSchema
from schemas.envelope import Message

log = structlog.get_logger(__name__)

#: Versions of the log that a projection may have nothing of before it says that it has come past them.
SAY_EVERY = 1_000
#: Seconds until it tries again what failed.
RETRY_AFTER_S = 5.0

#: Whether a row's signature holds: what an auditor queries must not contain what nobody signed.
Accept = Callable[[Message], bool]
#: A message -> a row of the projection, or None when it is not part of it.
Project = Callable[[Message], Mapping[str, Any] | None]


class Projection:
    """One derived table and its position."""

    def __init__(self, table: DeltaLog, project: Project, accept: Accept = lambda _: True) -> None:
        self.table = table
        self._project = project
        self._accept = accept
        self.app_id = f"projector:{table.schema.name}"
        self._head = -1
        #: The position that stands in the table.
        self._said = -1

    def position(self) -> int:
        """Source version up to which this table holds everything; -1 before the first row."""
        opened = self.table.open()
        if len(opened.schema().fields) < len(self.table.schema.columns) and self.table.widen():
            opened = self.table.open()  # it was an older release's
        self._head = opened.version()
        version = opened.transaction_version(self.app_id)
        self._said = -1 if version is None else int(version)
        return self._follow(self._said)

    def say(self, position: int) -> None:
        """Write down how far it has come, so that whoever is next need not look through all of it."""
        if self._said < position:
            self.append((), position, self._said)

    def append(self, messages: Sequence[Message], upto: int, known: int, say: bool = True) -> int:
        """Add what these messages make, unless another projector did; returns the position reached.

        `say`: also where they make nothing. Renewed leases make nothing of most tables, and no commit each.
        """
        position = known
        while position < upto:
            # Whatever another projector committed meanwhile is in the table: only what is above it is still ours to add.
            fresh = [m for m in messages if m.log_version > position]
            projected = [row for m in fresh if (row := self._project(m)) is not None and self._accept(m)]
            if not projected and not say and upto - self._said < SAY_EVERY:
                return upto
            rows = _rows(self.table.schema, projected)
            put = self.table.put(self._head + 1, rows, txns={self.app_id: upto})
            if put.won:
                self._head += 1
                self._said = upto
                return upto
            position = self._follow(position)
        return position

    def _follow(self, position: int) -> int:
        while (entry := self.table.entry(self._head + 1)) is not None:
            self._head += 1
            self._said = max(self._said, entry.txns.get(self.app_id, -1))
        return max(position, self._said)


class Projector:
    """Runs in a thread of a host, beside its bus. One is enough; two do no harm."""

    def __init__(
        self,
        bus: Bus,
        source: DeltaLog,
        projections: Sequence[Projection],
        pause_s: float = 0.05,
        accept: Accept = lambda _: True,
        retry_s: float = RETRY_AFTER_S,
        valid_above: Callable[[int], Sequence[Message]] | None = None,
    ) -> None:
        """`accept`: as of the bus, since a row that nobody signed decides nothing here either. `valid_above`: what counts
        above a version, from who can say it without reading everything.
        """
        self._valid_above = valid_above or self._scanned
        self._accept = accept
        self._retry = retry_s
        self._bus = bus
        self._source = source
        self._projections = projections
        self._pause = pause_s
        self._arrived: deque[Arrival] = deque()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._positions: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="projector", daemon=True)
        self._leave: Callable[[], None] = lambda: None

    def start(self) -> None:
        self._leave = self._bus.subscribe(self._listen)
        self._thread.start()

    def stop(self) -> None:
        """Project what has come so far, then stop. Idempotent."""
        self._leave()
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _listen(self, arrival: Arrival) -> None:
        self._arrived.append(arrival)
        self._wake.set()

    def _run(self) -> None:
        while True:
            last = self._stopping.is_set()
            try:
                self._catch_up()
                while not self._stopping.is_set():
                    self._wake.wait()
                    # A short pause makes one commit out of many: a projection may lag, but must not cost what the log costs.
                    self._stopping.wait(self._pause)
                    self._wake.clear()
                    self._project_arrivals()
                self._project_arrivals()
                for projection in self._projections:
                    projection.say(self._positions[projection.app_id])
                return
            except Exception:
                # A full disk, say. The tables know how far they came: from there it goes on.
                log.exception("projector.failed")
                if last:
                    return
                self._stopping.wait(self._retry)

    def _catch_up(self) -> None:
        """Everything between each table's position and now, at once."""
        self._arrived.clear()  # the log has them, and the bus has come at least as far
        upto = self._bus.catch_up()
        self._positions = {p.app_id: p.position() for p in self._projections}
        known = min(self._positions.values())
        if known >= upto:
            return
        self._append([m for m in self._valid_above(known) if m.log_version <= upto], upto)

    def _scanned(self, _: int) -> Sequence[Message]:
        from bus.fold import valid_rows
        from bus.log.follower import deciding

        found, _version = self._source.scan()
        return valid_rows(deciding(codec.from_arrow(found), self._accept))

    def _project_arrivals(self) -> None:
        # Taken one by one: the bus's thread appends meanwhile, and what it appends to a list just given away is lost.
        arrivals = [self._arrived.popleft() for _ in range(len(self._arrived))]
        if arrivals:
            self._append([row for arrival in arrivals for row in arrival.rows], arrivals[-1].version, say=False)

    def _append(self, messages: Sequence[Message], upto: int, say: bool = True) -> None:
        for projection in self._projections:
            known = self._positions[projection.app_id]
            if known < upto:
                self._positions[projection.app_id] = projection.append(messages, upto, known, say)


def _rows(schema: TableSchema, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    columns = [pa.array([row.get(field.name) for row in rows], type=field.type) for field in schema.file_schema]
    return pa.Table.from_arrays(columns, schema=schema.file_schema)


def payload_of(message: Message) -> dict[str, Any]:
    """The content as an object; empty for a content that is none (such a row is quarantined by its addressee)."""
    try:
        content = json.loads(message.content)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
