"""What a grant left in the lakehouse: its mark in a table's Delta log, written with the data and read without Spark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from workers.ports import Outcome, StatementRefused

#: What a grant's write says about itself, so that a table made by a run can be told from a source table.
WRITER = "tailrace.execution"
#: The operation of the version after which a table is gone.
DROP = "DROP TABLE"
_APP_ID = "tailrace:grant:"
TXN_VERSION = 1


def app_id(grant_id: str) -> str:
    """The Delta transaction id of a grant: a table keeps it for ever, and two writes with one id cannot both count."""
    return _APP_ID + grant_id


def user_metadata(grant_id: str, code_sha256: str) -> str:
    return json.dumps({"writer": WRITER, "grant_id": grant_id, "code_sha256": code_sha256}, sort_keys=True)


def outcome_at(path: Path, target: str, grant_id: str) -> Outcome | None:
    """Whether `grant_id` wrote the table at `path`: None is proof that it did not, as long as nothing is still writing."""
    table = open_table(path)
    if table is None or table.transaction_version(app_id(grant_id)) is None:
        return None
    for entry in table.history():
        if _mark(entry).get("grant_id") == grant_id:
            return Outcome(target, int(entry["version"]))
    return Outcome(target, None)


def outcome_anywhere(path: Path, graves: Path, target: str, grant_id: str) -> Outcome | None:
    """The same, also when the grant dropped the table, or somebody did later."""
    found = outcome_at(path, target, grant_id)
    for grave in sorted(graves.glob("*")) if found is None else ():
        found = found or outcome_at(grave, target, grant_id)
    return found


def dropped_by(path: Path) -> str | None:
    """The grant whose drop of this table was interrupted before the table was gone."""
    table = open_table(path)
    if table is None:
        return None
    newest = table.history(1)[0]
    return _mark(newest).get("grant_id") if newest.get("operation") == DROP else None


def refuse_foreign_table(path: Path, target: str) -> None:
    """A run may replace what a run made, nothing else. Raises StatementRefused with `target.protected`."""
    table = open_table(path)
    if table is None:
        if path.exists() and any(path.iterdir()):
            raise StatementRefused(
                "target.protected", f"{target} is a folder that holds something else: choose another name"
            )
        return
    if not any(_mark(entry).get("writer") == WRITER for entry in table.history()):
        raise StatementRefused(
            "target.protected",
            f"{target} exists and was not made by an execution: choose another name, or remove it yourself",
        )


def version_at(path: Path) -> int | None:
    table = open_table(path)
    return None if table is None else table.version()


def size_at(path: Path, version: int) -> tuple[int, int] | None:
    """Rows and bytes by the log's own statistics; None where a file has none, or the table is gone."""
    try:
        actions = DeltaTable(str(path), version=version).get_add_actions()
    except (DeltaError, OSError):
        return None
    rows, sizes = actions.column("num_records").to_pylist(), actions.column("size_bytes").to_pylist()
    return None if None in rows else (sum(rows), sum(sizes))


def open_table(path: Path) -> DeltaTable | None:
    if not (path / "_delta_log").is_dir():
        return None
    try:
        return DeltaTable(str(path))
    except TableNotFoundError:
        return None


def _mark(entry: dict[str, Any]) -> dict[str, Any]:
    try:
        mark = json.loads(entry.get("userMetadata") or "{}")
    except ValueError:
        return {}
    return mark if isinstance(mark, dict) else {}
