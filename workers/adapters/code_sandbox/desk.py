"""What the clerk does: checks and copies before a run, and takes, compares and stages what came out after it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workers.adapters.code_sandbox import snapshot, taking
from workers.adapters.code_sandbox.check import check
from workers.adapters.code_sandbox.limits import Limits
from workers.adapters.sandbox import history
from workers.adapters.sandbox.names import target_path
from workers.ports import StatementRefused

_CLASSES = {None: "read", "create": "create", "replace": "write"}


class Desk:
    """For one run: `prepare` and, once the code has ended, `take`."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._scratch = Path(settings["scratch"])
        self._warehouse = Path(settings["home"]) / "warehouse"
        self._schemas: Sequence[str] = settings["schemas"]
        self._writable: Sequence[str] = settings["writable"]
        self._limits = Limits.of(settings["limits"])
        self._language = ""
        self._text = ""
        self._target: str | None = None
        self._path: Path | None = None
        self._base: int | None = None
        self._copied: list[snapshot.Copied] = []

    def prepare(self, language: str, text: str, target: str | None, reads: list[str]) -> dict[str, Any]:
        """Check all that can be checked, and lay out what the code may read."""
        check(text, language, self._limits.code)
        self._language, self._text, self._target = language, text, target
        if target is not None:
            self._path = target_path(self._warehouse, target, self._schemas, self._writable)
            history.refuse_foreign_table(self._path, target)
            self._base = history.version_at(self._path)
        tables = snapshot.find(reads, self._warehouse, self._schemas)
        given = self._scratch / "in"
        (given / "tables").mkdir(parents=True)
        (given / "code.py").write_text(text, encoding="utf-8")
        self._copied = snapshot.copy(tables, given / "tables", language, self._limits.snapshot)
        return {"tables": [table.name for table in self._copied]}

    def take(self, digest: str | None, grant_id: str | None, row_limit: int) -> dict[str, Any]:
        """What the code gave. With `grant_id` it is meant: refused unless it is what `digest` was approved for."""
        table = taking.taken(self._scratch / "result", 4 * self._limits.result)
        columns = taking.columns(table)
        found = self._digest(columns)
        if digest is not None and found != digest:
            raise StatementRefused(
                "grant.dry_run_changed",
                "the tables, or the columns of the result, are not those of the approved dry run: ask for a new one",
            )
        staged = None
        if self._target is not None and self._path is not None:
            if grant_id is not None and history.outcome_at(self._path, self._target, grant_id) is not None:
                raise StatementRefused(
                    "grant.used", f"grant {grant_id} already wrote {self._target}: ask for a new one"
                )
            staged = taking.stage(table, self._target, self._path, self._base, self._scratch)
        elif grant_id is not None and table.num_rows > row_limit:
            whole = taking.keep_whole(table, self._scratch)
        return {
            "columns": table.column_names,
            "rows": taking.rows(table, row_limit) if grant_id is not None else [],
            "row_count": table.num_rows,
            "truncated": table.num_rows > row_limit,
            "whole": str(whole) if staged is None and grant_id is not None and table.num_rows > row_limit else None,
            "digest": found,
            "table_versions": self._versions(),
            "plan": self._plan(columns, table.num_rows),
            "statement_class": _CLASSES[staged and staged.verb],
            "estimated_rows": sum(copied.rows for copied in self._copied),
            "estimated_bytes": sum(copied.bytes for copied in self._copied),
            "staged": None
            if staged is None
            else {"folder": str(staged.place), "version": staged.base, "verb": staged.verb},
            "effect": None if staged is None else staged.effect.model_dump(mode="json"),
        }

    def _versions(self) -> dict[str, int]:
        versions = {copied.name: copied.version for copied in self._copied}
        if self._target is not None and self._base is not None:
            versions[self._target] = self._base
        return dict(sorted(versions.items()))

    def _digest(self, columns: Sequence[str]) -> str:
        """What is approved: this code on these versions, replacing this one, with a result of this shape.

        Not its rows: code may depend on the clock, on chance or on the order in which threads add up, and would then never
        be what was approved. They are shown to whoever approves; that the run gave others, the table's history shows.
        """
        facts = {
            "code_sha256": hashlib.sha256(self._text.encode()).hexdigest(),
            "dialect": self._language,
            "target": self._target,
            "target_version": self._base,
            "table_versions": self._versions(),
            "columns": list(columns),
        }
        canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def _plan(self, columns: Sequence[str], rows: int) -> str:
        """For people: what goes in and what came out."""
        lines = [f"{self._language}, {len(self._text.splitlines())} lines, in a sandbox without network"]
        lines += [f"reads {copied.name} version {copied.version}: {copied.rows} rows" for copied in self._copied]
        lines.append(f"gave {rows} rows: {', '.join(columns)}")
        if self._target is not None:
            done = "creates" if self._base is None else f"replaces version {self._base} of"
            lines.append(f"{done} {self._target}")
        return "\n".join(lines)
