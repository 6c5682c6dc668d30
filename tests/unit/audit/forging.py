"""A forger with all the files and none of the keys: rewrites rows, data files and log entries so that they agree."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bus.log.table import DeltaLog
from jobs.audit.signatures import raws
from jobs.bootstrap import System
from schemas.tables import AGENT_MESSAGES

Rows = list[dict[str, Any]]
_NAMES = AGENT_MESSAGES.file_schema.names


def rows_of(system: System, table: str = AGENT_MESSAGES.name) -> Rows:
    """All rows of agent_messages in log order."""
    found, _ = system.log(table).scan()
    return sorted(raws(found), key=lambda row: (row["log_version"], row["seq"]))


def rewrite(system: System, change: Callable[[Rows], Rows]) -> None:
    """The log as if it had always held the changed rows. A version whose rows are gone keeps an entry without any."""
    log = system.log(AGENT_MESSAGES.name)
    commits: dict[int, Rows] = defaultdict(list)
    for row in change(rows_of(system)):
        commits[row["log_version"]].append(row)
    for version in range(1, log.head() + 1):
        _rewrite_entry(log, version, commits[version])


def cut_off(system: System, version: int) -> None:
    """The log as if it had ended there."""
    log = system.log(AGENT_MESSAGES.name)
    for later in range(version + 1, log.head() + 1):
        (log.path / f"_delta_log/{later:020d}.json").unlink()


def _rewrite_entry(log: DeltaLog, version: int, rows: Rows) -> None:
    path = log.path / f"_delta_log/{version:020d}.json"
    actions = [json.loads(line) for line in path.read_text().splitlines()]
    add = next((action["add"] for action in actions if "add" in action), None)
    kept = [action for action in actions if "add" not in action]
    for action in kept:
        ours = action.get("commitInfo", {}).get("tailrace")
        if ours is not None and "rows" in ours:
            ours["rows"] = [{name: row[name] for name in _NAMES if row[name] is not None} for row in rows]
    if rows:
        assert add is not None, "no rows are put into a version that had none"
        columns = {
            field.name: pa.array([row[field.name] for row in rows], field.type) for field in AGENT_MESSAGES.file_schema
        }
        pq.write_table(pa.table(columns), log.path / add["path"].replace("%3D", "="))
        stats = json.loads(add["stats"]) | {"numRecords": len(rows)}
        add |= {
            "stats": json.dumps({"numRecords": stats["numRecords"]}),
            "size": (log.path / add["path"]).stat().st_size,
        }
        kept.append({"add": add})
    path.write_text("\n".join(json.dumps(action) for action in kept) + "\n")


def put_in(system: System, rows: Rows, said: dict[str, Any]) -> int:
    """Rows by somebody who can write files and has no key, in an entry of their own; `said`: of it in its `add`."""
    log = system.log(AGENT_MESSAGES.name)
    columns = {
        field.name: pa.array([row[field.name] for row in rows], field.type) for field in AGENT_MESSAGES.file_schema
    }
    version = log.append(pa.table(columns))
    path = log.path / f"_delta_log/{version:020d}.json"
    actions = [json.loads(line) for line in path.read_text().splitlines()]
    for action in actions:
        if "add" in action:
            action["add"] |= said
    path.write_text("\n".join(json.dumps(action) for action in actions) + "\n")
    return version
