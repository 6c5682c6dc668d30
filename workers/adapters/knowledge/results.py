"""Published results: what a granted execution saved, found by meaning and read at the version it wrote."""

from __future__ import annotations

import base64
import math
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from bus.errors import LogMissing
from bus.log import reading
from bus.log.table import DeltaLog
from workers.ports import CouldNotMap, PortError, PublishedResult, Rows

_TARGET = re.compile(r"[A-Za-z0-9_]+\.[A-Za-z0-9_]+")
_COLUMNS = (
    *("grant_id", "step", "question", "code", "target", "table_version", "approved_by", "timestamp"),
    *("table_version_before", "undoes", "log_version", "seq"),
)


class DeltaResultCatalog:
    """A ResultCatalog over the projection `executions` and the tables of the warehouse. Safe for several threads."""

    def __init__(self, executions: DeltaLog, warehouse: Path, canonical: Callable[[str], str]) -> None:
        """`canonical` turns a question into what it means, the same text for the same meaning; raises CouldNotMap."""
        self._executions = executions
        self._warehouse = warehouse
        self._canonical = canonical
        self._lock = threading.Lock()
        self._version = -1
        self._by_meaning: Mapping[str, PublishedResult] = {}
        self._meanings: dict[str, str] = {}

    def find(self, question: str) -> PublishedResult | None:
        """The newest published result that means the same. Alike is not the same: nothing is guessed."""
        return self._published().get(self._meaning(question))

    def read(self, result: PublishedResult, limit: int) -> Rows:
        """The first `limit` rows in stored order. Raises PortError when that very version is gone."""
        if not _TARGET.fullmatch(result.table):
            raise PortError(f"'{result.table}' is no schema.table of the warehouse.")
        path = self._warehouse.joinpath(*result.table.split("."))
        where = f"The published result {result.table}, version {result.table_version},"
        again = "A data engineer can run the question again under governance."
        try:
            table = _head(DeltaTable(str(path), version=result.table_version), limit + 1)
        except TableNotFoundError as error:
            raise PortError(f"{where} is not there: the table was removed. {again}") from error
        except (DeltaError, FileNotFoundError, pa.ArrowInvalid) as error:
            raise PortError(f"{where} can no longer be read; that version may have been cleaned up. {again}") from error
        rows = tuple(tuple(_json_ready(value) for value in row.values()) for row in table.slice(0, limit).to_pylist())
        return Rows(tuple(table.column_names), rows, table.num_rows > limit)

    def _meaning(self, question: str) -> str:
        try:
            return f"means {self._canonical(question)}"
        except CouldNotMap:
            return f"says {' '.join(question.casefold().split()).rstrip('?!. ')}"

    def _published(self) -> Mapping[str, PublishedResult]:
        with self._lock:
            try:
                version = self._executions.head(self._version)
                if version != self._version:
                    table, self._version = self._executions.scan(_COLUMNS, _saved())
                    table = table.sort_by([("log_version", "ascending"), ("seq", "ascending")])
                    rows = [_published(row) for row in _standing(table.to_pylist())]
                    for question in {row.question for row in rows} - self._meanings.keys():
                        self._meanings[question] = self._meaning(question)
                    self._by_meaning = {self._meanings[row.question]: row for row in rows}
            except LogMissing as error:
                raise PortError("Nothing has been published yet: run `tailrace init`.") from error
            return self._by_meaning


def _saved() -> pc.Expression:
    saved = pc.field("target").is_valid() & pc.field("table_version").is_valid() & pc.field("question").is_valid()
    return (pc.field("step") == "done") & saved


def _standing(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Results that nobody took back. An undo goes back over all versions between, and may itself be undone: newest first."""
    undone: list[tuple[str, int, int]] = []
    before = {row["grant_id"]: _before(row) for row in rows}
    standing = []
    for row in reversed(rows):
        table, version = row["target"], row["table_version"]
        if any(table == other and after < version < until for other, after, until in undone):
            continue
        if row["undoes"] is None:
            standing.append(row)
        elif row["undoes"] in before:
            undone.append((table, before[row["undoes"]], version))
    return standing[::-1]


def _before(row: Mapping[str, Any]) -> int:
    """The version it replaced; -1: there was no table."""
    before: int | None = row["table_version_before"]
    return int(row["table_version"]) - 1 if before is None else before


def _published(row: Mapping[str, Any]) -> PublishedResult:
    return PublishedResult(
        question=row["question"],
        sql=row["code"],
        table=row["target"],
        table_version=row["table_version"],
        executed_at=row["timestamp"].astimezone(UTC).isoformat(timespec="seconds"),
        approved_by=row["approved_by"] or "",
        grant_id=row["grant_id"],
    )


def _head(table: DeltaTable, limit: int) -> pa.Table:
    """The first rows, file by file: a writer numbers its files in the order of its result."""
    files = reading.dataset(table)
    found = files.schema.empty_table()
    for fragment in sorted(files.get_fragments(), key=lambda one: Path(one.path).name):
        if found.num_rows >= limit:
            break
        rows = fragment.scanner(schema=files.schema, use_threads=False).head(limit - found.num_rows)
        found = pa.concat_tables([found, rows])
    return found


def _json_ready(value: Any) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case Decimal():
            return format(value, "f")
        case datetime() | date() | time():
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode()
        case dict():
            return {str(key): _json_ready(one) for key, one in value.items()}
        case list() | tuple():
            return [_json_ready(one) for one in value]
        case _:
            return str(value)
