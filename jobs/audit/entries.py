"""The rows of the table beside the log entries that brought them: as long as both are there, they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from bus.errors import ForeignLog
from bus.log import rows as codec
from bus.log.contents import load
from bus.log.retention import archives
from bus.log.table import DeltaLog
from jobs.audit import standing
from jobs.audit.report import AuditReport
from schemas.envelope import Message


class Entries:
    """Few rows stand twice, in their entry and in a data file: hosts believe the one, everybody else the other."""

    def __init__(self, source: DeltaLog, report: AuditReport) -> None:
        self._source = source
        self._report = report
        names = [n for n in source.store.names("_delta_log") if n.endswith(".json") and n[:20].isdigit()]
        self._there = {int(name[:20]) for name in names}
        self._archived = bool(archives(source))
        self.head = max(self._there, default=source.checkpoint_version() or -1)
        self._gaps()

    def _gaps(self) -> None:
        """Between the newest checkpoint and the head no entry may be missing: nobody could read the table beyond it."""
        for version in range((self._source.checkpoint_version() or -1) + 1, self.head):
            if version not in self._there and not self._source.exists(version):
                self._report.add("log.gap", f"version {version}", "its log entry is missing, and later ones are there")

    def take(self, version: int, rows: Sequence[Message]) -> None:
        """All rows of one commit, in order; `forget` what is left at the end."""
        if version not in self._there:
            return  # cleaned away, or no version at all
        self._there.discard(version)
        try:
            entry = self._source.entry(version)
        except ForeignLog as error:
            self._report.add("log.entry", f"version {version}", str(error))
            return
        if entry is None:
            return
        said = sum(one.rows for one in entry.added)
        if said >= 0 and said != len(rows) and not (self._archived and len(rows) < said):
            what = f"its log entry brought {said} rows, and {len(rows)} are in the table"
            self._report.add("log.removed" if said > len(rows) else "log.inserted", f"version {version}", what)
        elif entry.inline and not _same(entry.inline, rows) and codec.of_entry(self._source, entry) != list(rows):
            what = "its log entry and its data file say different rows: hosts read the one, queries the other"
            self._report.add("log.entry", f"version {version}", what)

    def end(self) -> None:
        """Entries that say they brought rows, and the table has none of them."""
        for version in sorted(self._there):
            try:
                entry = self._source.entry(version)
            except ForeignLog as error:
                self._report.add("log.entry", f"version {version}", str(error))
                continue
            said = sum(one.rows for one in entry.added) if entry is not None else 0
            if said > 0 and not self._archived:
                what = f"its log entry brought {said} rows, and none of them is in the table"
                self._report.add("log.removed", f"version {version}", what)


def _same(inline: Sequence[Mapping[str, Any]], rows: Sequence[Message]) -> bool:
    """Whether they say the same letter for letter, as they nearly always do."""
    return all(_said(raw) == _said(row.__dict__) for raw, row in zip(inline, rows, strict=True))


def _said(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without nulls, and without the place, which an entry says by its version and its order."""
    return {name: value for name, value in fields.items() if value is not None and name not in ("log_version", "seq")}


def all_rows(source: DeltaLog, report: AuditReport) -> pa.Table:
    """Every row there ever was, in log order. A file that is gone is a problem, not the end of the verification."""
    there = load(source)
    for version in range(there.version + 1, _newest(source) + 1):
        # A Delta reader goes no further; what stands behind the gap is looked at all the same.
        if (entry := source.entry(version)) is not None:
            there.apply(entry)
    gone = [one for one in there.files.values() if not source.store.exists(one.file)]
    for one in gone:
        held = f"versions {one.span[0]} to {one.span[1]}" if one.span else f"{one.rows} rows"
        report.add("log.file", one.file, f"the data file with {held} is missing")
        del there.files[one.path]
    return standing.rows(source, there)


def _newest(source: DeltaLog) -> int:
    """The newest entry of a listing."""
    names = source.store.names("_delta_log")
    return max((int(n[:20]) for n in names if n.endswith(".json") and n[:20].isdigit()), default=-1)
