"""What was decided is in the projections, and nothing else is: up to the position each of them says it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from bus.audit import says_fact
from bus.log.retention import everything
from bus.log.table import DeltaLog
from bus.projections.projector import Project
from bus.projections.tables import fact_row
from jobs.audit.report import AuditReport
from schemas.envelope import Message
from schemas.tables import AUDIT_LOG

#: Rows of a projection that are Python objects at once.
_AT_ONCE = 2_000
Place = tuple[int, int]


class Compared:
    """One projection beside the log: both in the order of the log, so that neither is held as objects."""

    def __init__(self, table: DeltaLog, project: Project, report: AuditReport) -> None:
        self.name = table.schema.name
        self._project = project
        self._report = report
        opened = table.open()
        version = opened.transaction_version(f"projector:{self.name}")
        self._upto = -1 if version is None else int(version)
        rows = everything(table, opened)
        # A table that was made before a column was added does not have it.
        self._names = [name for name in table.schema.file_schema.names if name in rows.column_names]
        self._rows = _ordered(rows.select(self._names))
        self._next: tuple[Place, list[Any]] | None = None
        self._step()

    def take(self, message: Message) -> None:
        """The next valid row of the log."""
        if message.log_version > self._upto:
            return
        place = message.position
        if (row := self._project(message)) is None:
            if self.name == AUDIT_LOG.name and says_fact(message):
                self._of_old(place, message)
            return
        self._invented(before=place)
        if self._next is None or self._next[0] != place:
            self._report.add("projection.missing", self._where(place), "it is in the log and not in the projection")
            return
        if self._next[1] != [row.get(name) for name in self._names]:
            self._report.add("projection.altered", self._where(place), "it differs from what the log says")
        self._step()
        while self._next is not None and self._next[0] == place:
            self._report.add("projection.repeated", self._where(place), "the row stands there twice")
            self._step()

    def _of_old(self, place: Place, message: Message) -> None:
        """A person's word was projected as a fact before it counted for nothing: there it may still be."""
        self._invented(before=place)
        row = fact_row(message)
        if self._next is not None and self._next == (place, [row.get(name) for name in self._names]):
            self._step()

    def end(self) -> None:
        """After the last row of the log."""
        self._invented()

    def _invented(self, before: Place | None = None) -> None:
        while self._next is not None and (before is None or self._next[0] < before):
            self._report.add(
                "projection.invented", self._where(self._next[0]), "it is in the projection, not in the log"
            )
            self._step()

    def _step(self) -> None:
        self._next = next(self._rows, None)
        if self._next is not None:
            self._report.checked["projected rows"] += 1

    def _where(self, place: Place) -> str:
        return f"{self.name} {place}"


def _ordered(rows: pa.Table) -> Iterator[tuple[Place, list[Any]]]:
    for index, name in enumerate(rows.column_names):
        if pa.types.is_timestamp(rows.schema.field(name).type):
            rows = rows.set_column(index, name, rows.column(name).cast(pa.timestamp("us", "UTC")).cast(pa.int64()))
    rows = rows.sort_by([("log_version", "ascending"), ("seq", "ascending")])
    version, seq = rows.column_names.index("log_version"), rows.column_names.index("seq")
    for start in range(0, rows.num_rows, _AT_ONCE):
        columns: Sequence[list[Any]] = [column.to_pylist() for column in rows.slice(start, _AT_ONCE).columns]
        for values in zip(*columns, strict=True):
            row = list(values)
            yield (_or_nothing(row[version]), _or_nothing(row[seq])), row


def _or_nothing(value: int | None) -> int:
    return -1 if value is None else value


def compared(projections: Sequence[tuple[Any, Project]], open_log: Any, report: AuditReport) -> Mapping[str, Compared]:
    return {schema.name: Compared(open_log(schema.name), project, report) for schema, project in projections}
