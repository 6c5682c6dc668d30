"""Undo: a table as it was at an earlier version, or as if it had never been, in one new version that says so.

Nothing of the history is lost: what is undone stays readable under its own version, and an undo can be undone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from schemas.payloads import EffectPreview
from workers.adapters.sandbox import history, publish
from workers.adapters.sandbox.commits import Entry, entry_path, local_path, parsed, refuse_unknown_features
from workers.adapters.sandbox.digest import digest
from workers.adapters.sandbox.effects import columns_of, effect
from workers.adapters.sandbox.names import SCHEMAS, WRITABLE, target_path
from workers.ports import DryRun, Executed, Outcome, Rows, Statement, StatementRefused

LANGUAGE = "restore"

_TEXT = re.compile(
    r"\s*([^\s;]+)\s+TO\s+(?:VERSION\s+(\d{1,18})|NOTHING)(?:\s+FROM\s+VERSION\s+(\d{1,18}))?\s*;?\s*", re.IGNORECASE
)

_GONE_BEFORE = "there was no table before: it is emptied, and its history stays"


@dataclass(frozen=True)
class _Plan:
    """`place`: where the table lies now; below `.dropped` when it has to be brought back first."""

    target: str
    path: Path
    place: Path
    version: int
    to: int | None
    entry: Entry
    preview: EffectPreview
    columns: Sequence[str]
    digest: str


class RestoreEngine:
    """`Engine` for the language `restore`: `results.x TO VERSION 3`, or `results.x TO NOTHING`.

    With `FROM VERSION 4` it is refused when the table is not at that version: what others wrote since would be lost.
    """

    def __init__(self, home: Path, schemas: Sequence[str] = SCHEMAS, writable: Sequence[str] = WRITABLE) -> None:
        self._home = Path(os.path.realpath(home))
        self._warehouse = self._home / "warehouse"
        self._schemas = tuple(schemas)
        self._writable = tuple(writable)

    async def warm(self) -> None:
        """Nothing to start."""

    async def dry_run(self, statement: Statement) -> DryRun:
        began = time.perf_counter()
        plan = await asyncio.to_thread(self._plan, statement)
        return DryRun(
            statement_class="write" if plan.to is not None else "delete",
            columns=tuple(plan.columns),
            table_versions={plan.target: plan.version},
            plan=_words(plan),
            digest=plan.digest,
            elapsed_ms=(time.perf_counter() - began) * 1000,
            writes=plan.target,
            estimated_rows=plan.preview.rows_before,
            effect=plan.preview,
        )

    async def run(self, statement: Statement, grant_id: str, row_limit: int, *, digest: str | None = None) -> Executed:
        restoring = asyncio.ensure_future(asyncio.to_thread(self._run, statement, grant_id, digest))
        try:
            return await asyncio.shield(restoring)
        except asyncio.CancelledError:
            await asyncio.wait([restoring])  # it is one commit: whoever goes leaves it done or not begun
            raise

    async def outcome_of(self, grant_id: str, target: str, since: int | None = None) -> Outcome | None:
        path = target_path(self._warehouse, target, self._schemas, self._writable)
        graves = self._warehouse / publish.DROPPED / target
        return await asyncio.to_thread(history.outcome_anywhere, path, graves, target, grant_id)

    async def cancel(self, grant_id: str) -> bool:
        """There is nothing between the check and the one commit that could be ended."""
        return False

    async def close(self) -> None: ...

    # --- what is done ------------------------------------------------------------------------------------------------

    def _run(self, statement: Statement, grant_id: str, expected: str | None) -> Executed:
        began = time.perf_counter()
        plan = self._plan(statement)
        if expected is not None and plan.digest != expected:
            raise publish.moved(plan.target)
        if history.outcome_at(plan.place, plan.target, grant_id) is not None:
            raise StatementRefused("grant.used", f"grant {grant_id} already wrote {plan.target}: ask for a new one")
        mark = publish.Mark(grant_id, hashlib.sha256(statement.text.encode()).hexdigest())
        if plan.place != plan.path:
            publish.bring_back(plan.place, plan.path)
        version = publish.commit(plan.path, plan.version, mark.actions(plan.entry, plan.version), mark)
        found = plan.preview
        counts = (found.added or 0, found.changed or 0, found.removed or 0)
        return Executed(
            result=Rows(("added", "changed", "removed"), (counts,), False),
            row_count=sum(counts),
            table=plan.target,
            table_version=version,
            elapsed_ms=(time.perf_counter() - began) * 1000,
            table_version_before=plan.version,
        )

    def _plan(self, statement: Statement) -> _Plan:
        target, to, expected = _parsed(statement)
        path = target_path(self._warehouse, target, self._schemas, self._writable)
        place = path if history.version_at(path) is not None else self._dropped(target)
        table = history.open_table(place)
        if table is None:
            raise StatementRefused("target.missing", f"there is no table {target}: nothing to undo")
        version = table.version()
        refuse_unknown_features(table, target)
        if expected is not None and expected != version:
            raise StatementRefused(
                "undo.moved",
                f"{target} is at version {version}, not {expected}: what was written since would be undone as well",
            )
        if to is not None and to > version:
            raise StatementRefused("undo.version", f"{target} has no version {to} yet: its newest is {version}")
        entry = _emptying(table) if to is None else _restoring(place, to, target)
        for action in entry.adds:
            if not (place / local_path(action["path"])).is_file():
                raise StatementRefused(
                    "undo.vacuumed",
                    f"files of version {to} of {target} were removed by a clean-up: it cannot come back",
                )
        metadata = {"schemaString": table.schema().to_json()}
        before = _files_of(table)
        found = effect(target, version, place, before, metadata, entry)
        note = _GONE_BEFORE if to is None else found.note
        columns = columns_of(entry.metadata or metadata)
        hashed = digest(statement.text, target, {target: version}, columns, json.dumps([LANGUAGE, to, _files(entry)]))
        return _Plan(target, path, place, version, to, entry, found.model_copy(update={"note": note}), columns, hashed)

    def _dropped(self, target: str) -> Path:
        """The table of that name that was dropped last."""
        graves = (self._warehouse / publish.DROPPED / target).glob("*")
        return max(graves, key=lambda grave: (grave / "_delta_log").stat().st_mtime, default=self._warehouse / target)


def _parsed(statement: Statement) -> tuple[str, int | None, int | None]:
    """The table, the version it goes back to (None: nothing), and the one it has to be at, if that is said."""
    found = _TEXT.fullmatch(statement.text)
    if found is None:
        raise StatementRefused("restore.syntax", "write `schema.table TO VERSION 3`, or `schema.table TO NOTHING`")
    target, version, expected = found.groups()
    if statement.target is not None and statement.target != target:
        raise StatementRefused(
            "target.mismatch", f"the undo changes {target}, and {statement.target} was declared as the target"
        )
    return target, None if version is None else int(version), None if expected is None else int(expected)


def _files_of(table: DeltaTable) -> list[dict[str, Any]]:
    found = pa.table(table.get_add_actions())
    partitions = found["partition"].to_pylist() if "partition" in found.column_names else [{}] * len(found)
    return [
        {
            "path": path,
            "partitionValues": {name: None if value is None else str(value) for name, value in values.items()},
        }
        for path, values in zip(found["path"].to_pylist(), partitions, strict=True)
    ]


def _emptying(table: DeltaTable) -> Entry:
    info = {"operation": "RESTORE", "operationParameters": {"version": "nothing"}}
    return Entry(info=info, removes=publish.emptied(table))


def _restoring(path: Path, to: int, target: str) -> Entry:
    """What the entry would be: deltalake writes it into a log that links to the table's, beside no data at all."""
    with _log_alone(path) as copy:
        try:
            table = DeltaTable(str(copy))
            before = table.version()
            table.restore(to, ignore_missing_files=True, protocol_downgrade_allowed=False)
            found = parsed(entry_path(copy, before + 1).read_text())
        except (DeltaError, OSError, ValueError) as error:
            said = str(error).splitlines()[0]
            raise StatementRefused(
                "undo.version", f"version {to} of {target} cannot be read any more: {said}"
            ) from error
    # The protocol never goes back, and to write it again would say nothing.
    return Entry(found.info, found.adds, found.removes, found.changes, found.metadata)


@contextlib.contextmanager
def _log_alone(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tailrace-restore-") as folder:
        log = Path(folder) / "_delta_log"
        log.mkdir()
        for file in (path / "_delta_log").iterdir():
            if file.is_file() and not file.name.startswith("."):
                (log / file.name).symlink_to(file)
        yield Path(folder)


def _files(entry: Entry) -> list[list[str]]:
    return [sorted(action["path"] for action in actions) for actions in (entry.adds, entry.removes)]


def _words(plan: _Plan) -> str:
    what = "nothing" if plan.to is None else f"version {plan.to}"
    back = " (it was dropped, and comes back)" if plan.place != plan.path else ""
    return (
        f"Restore {plan.target} from version {plan.version} to {what}{back}: "
        f"{len(plan.entry.adds)} files come back, {len(plan.entry.removes)} go"
    )
