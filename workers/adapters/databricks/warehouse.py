"""SQL on a Databricks SQL warehouse, as an engine among others.

Tried against a server on loopback that speaks the statement execution API, through the real SDK; never against Databricks.
What is unproven there: that EXPLAIN reports analysis errors as text of a succeeded statement (both ways are handled), and that
the text of a statement stays findable in the query history for as long as an execution is in doubt.

A warehouse takes no session settings, so a write cannot carry `userMetadata`. A result table carries its grant as a table
property, written by the commit that made it. Other statements carry it as a comment, by which the query history finds them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
import uuid
from collections.abc import Callable, Mapping

import structlog
from sqlglot import exp

from schemas.payloads import EffectPreview, Sample
from workers.adapters.databricks.classify import Classified, classify
from workers.adapters.databricks.history import PROPERTY, History, mark_of
from workers.adapters.databricks.statements import Answer, Statements
from workers.ports import (
    DryRun,
    Executed,
    Outcome,
    OutcomeUnknown,
    PortError,
    Rows,
    Statement,
    StatementFailed,
    StatementRefused,
)

log = structlog.get_logger(__name__)

#: Rows of a change that an approver is shown.
SAMPLE = 10
_NAME = re.compile(r"[A-Za-z_]\w{0,127}(?:\.[A-Za-z_]\w{0,127}){1,2}")
_GRANT = re.compile(r"[\w-]{1,80}")
_EXPLAIN_FAILED = re.compile(r"Error occurred during query planning:?\s*", re.IGNORECASE)


class WarehouseEngine:
    """`Engine` for language sql. `scratch`: the schema where effects are tried on shallow clones; None: they are not.

    `history`: see QueryHistory. `grant_ttl_s`: no grant lives longer, so that a run need not look further back.
    `reader` makes dry runs, `writer` runs; give the reader a principal that can change nothing but the scratch schema.
    """

    def __init__(
        self,
        reader: Statements,
        writer: Statements,
        history: History,
        *,
        grant_ttl_s: float = 3600.0,
        now: Callable[[], float] = time.time,
        scratch: str | None = None,
        results: str = "results",
    ) -> None:
        self._reader, self._writer = reader, writer
        self._history = history
        self._grant_ttl_s, self._now = grant_ttl_s, now
        self._scratch = scratch
        self._results = results
        self._running: dict[str, str] = {}

    async def warm(self) -> None:
        await asyncio.to_thread(self._reader.read, "SELECT 1")

    async def close(self) -> None:
        return

    async def dry_run(self, statement: Statement) -> DryRun:
        return await asyncio.to_thread(self._dry_run, statement, True)

    async def run(self, statement: Statement, grant_id: str, row_limit: int, *, digest: str | None = None) -> Executed:
        return await asyncio.to_thread(self._run, statement, grant_id, row_limit, digest)

    async def outcome_of(self, grant_id: str, target: str, since: int | None = None) -> Outcome | None:
        return await asyncio.to_thread(self._outcome, grant_id, target, None if since is None else since // 1000)

    async def cancel(self, grant_id: str) -> bool:
        statement_id = self._running.get(grant_id)
        if statement_id is None:
            return False
        await asyncio.to_thread(self._writer.cancel, statement_id)
        return True

    # --- dry run -----------------------------------------------------------------------------------------------------

    def _dry_run(self, statement: Statement, tries: bool) -> DryRun:
        began = time.perf_counter()
        what, target, kind = self._read(statement)
        plan = self._explained(statement.text)
        versions = {table: self._version(table) for table in what.reads}
        before = None if target is None else self._version_or_none(target)
        if target is not None and kind == "read":
            kind = "create" if before is None else "write"
        if target is not None and before is not None:
            versions[target] = before
        return DryRun(
            statement_class=kind,
            columns=(),
            table_versions=versions,
            plan=plan,
            digest=_digest(statement, target, versions, before, plan),
            elapsed_ms=(time.perf_counter() - began) * 1000,
            writes=target,
            effect=self._effect(what, target, before) if tries else None,
        )

    def _read(self, statement: Statement) -> tuple[Classified, str | None, str]:
        if statement.language != "sql":
            raise StatementRefused("execution.language", f"{statement.language} is not run on a SQL warehouse; sql is")
        what = classify(statement.text)
        if what.writes is not None and statement.target not in (None, what.writes):
            reason = f"the statement changes {what.writes}, and {statement.target} was declared"
            raise StatementRefused("target.other", reason)
        target = statement.target or what.writes
        if target is not None:
            _check_name(target)
            if target.split(".")[-2] != self._results:
                raise StatementRefused("target.schema", f"{target}: results go to the schema {self._results}")
        return what, target, what.statement_class

    def _explained(self, sql: str) -> str:
        answer = self._reader.read(f"EXPLAIN FORMATTED {sql}")
        plan = "\n".join(row[0] or "" for row in answer.rows)
        if (failed := _EXPLAIN_FAILED.search(plan)) is not None:
            said = plan[failed.end() :].strip().splitlines()
            raise StatementFailed(said[0][:500] if said else "the warehouse could not plan it")
        # Ids of columns differ from one EXPLAIN to the next.
        return re.sub(r"#\d+L?\b", "", plan)

    def _version(self, table: str) -> int:
        """Raises StatementFailed when there is no such table."""
        _check_name(table)
        answer = self._reader.read(f"DESCRIBE HISTORY {table} LIMIT 1")
        return int(_cell(answer, 0, "version") or -1)

    def _version_or_none(self, table: str) -> int | None:
        try:
            return self._version(table)
        except StatementFailed as error:
            if "NOT_FOUND" in str(error):
                return None
            raise

    def _effect(self, what: Classified, target: str | None, before: int | None) -> EffectPreview | None:
        """Tried on a shallow clone, which copies no data and is dropped again."""
        if target is None:
            return None
        nothing = EffectPreview(
            table=target, version=before, rows_before=None, rows_after=None, added=None, changed=None, removed=None
        )
        if self._scratch is None or what.writes is None:
            return nothing.model_copy(update={"note": "no scratch schema is set, so the effect was not tried"})
        clone = f"{self._scratch}.try_{uuid.uuid4().hex[:12]}"
        try:
            self._reader.read(f"CREATE TABLE {clone} SHALLOW CLONE {target} VERSION AS OF {before}")
            self._reader.read(_moved(what, clone))
            counts = self._reader.read(
                f"SELECT (SELECT count(*) FROM {target} VERSION AS OF {before}), (SELECT count(*) FROM {clone})"
            )
            old, new = int(counts.rows[0][0] or 0), int(counts.rows[0][1] or 0)
            added = self._difference(clone, f"{target} VERSION AS OF {before}")
            removed = self._difference(f"{target} VERSION AS OF {before}", clone)
            return EffectPreview(
                table=target,
                version=before,
                rows_before=old,
                rows_after=new,
                added=added[0],
                changed=None,
                removed=removed[0],
                sample_added=added[1],
                sample_removed=removed[1],
                note="a changed row counts as removed and added",
            )
        finally:
            try:
                self._reader.read(f"DROP TABLE IF EXISTS {clone}")
            except PortError as error:
                log.warning("warehouse.clone_left", table=clone, reason=str(error), remedy="drop it")

    def _difference(self, one: str, other: str) -> tuple[int, Sample]:
        rows = f"SELECT * FROM {one} EXCEPT ALL SELECT * FROM {other}"
        count = self._reader.read(f"SELECT count(*) FROM ({rows})")
        shown = self._reader.read(f"{rows} LIMIT {SAMPLE}")
        return int(count.rows[0][0] or 0), Sample(
            columns=[name for name, _ in shown.columns], rows=[list(row) for row in shown.rows]
        )

    # --- run ---------------------------------------------------------------------------------------------------------

    def _run(self, statement: Statement, grant_id: str, row_limit: int, digest: str | None) -> Executed:
        began = time.perf_counter()
        if not _GRANT.fullmatch(grant_id):
            raise StatementRefused("grant.id", "the grant's id is none that this engine can write down")
        now = self._dry_run(statement, False)
        if digest is not None and now.digest != digest:
            reason = "the tables or the plan are not those of the approved dry run: ask for a new one"
            raise StatementRefused("grant.dry_run_changed", reason)
        what, target, _ = self._read(statement)
        issued_ms = int((self._now() - self._grant_ttl_s) * 1000)
        if target is not None and self._outcome(grant_id, target, issued_ms) is not None:
            raise StatementRefused("grant.used", f"grant {grant_id} already wrote {target}: ask for a new one")
        before = None if target is None else now.table_versions.get(target)
        mark = mark_of(grant_id)
        tags = {PROPERTY: grant_id}

        def started(statement_id: str) -> None:
            self._running[grant_id] = statement_id

        try:
            if target is None:
                answer = self._writer.write(mark + statement.text, tags, started, row_limit)
                return _executed(answer, None, None, None, began)
            if what.writes is None:
                made = (
                    f"CREATE OR REPLACE TABLE {target} TBLPROPERTIES ('{PROPERTY}' = '{grant_id}') AS {statement.text}"
                )
                self._writer.write(mark + made, tags, started)
                changed = None
            else:
                changed = self._writer.write(mark + statement.text, tags, started, row_limit)
        finally:
            self._running.pop(grant_id, None)
        try:
            answer = changed or self._reader.read(f"SELECT * FROM {target}", row_limit)
            return _executed(answer, target, self._version(target), before, began)
        except StatementFailed as error:
            # The effect is there: that it cannot be read back now must not pass for a failure of the run.
            raise OutcomeUnknown(f"it ended well, and {target} could not be read back: {error}") from error

    def _outcome(self, grant_id: str, target: str, since_ms: int | None) -> Outcome | None:
        _check_name(target)
        try:
            answer = self._reader.read(f"SHOW TBLPROPERTIES {target}")
        except StatementFailed as error:
            if "NOT_FOUND" not in str(error):
                raise
            return None
        if (PROPERTY, grant_id) in answer.rows:
            return Outcome(target, None)
        state = self._history(grant_id, since_ms)
        if state == "FINISHED":
            return Outcome(target, None)
        if state not in (None, "FAILED", "CANCELED"):
            raise OutcomeUnknown(f"the warehouse says that it is {state.lower()}")
        return None


def _executed(answer: Answer, table: str | None, version: int | None, before: int | None, began: float) -> Executed:
    return Executed(
        result=Rows(tuple(name for name, _ in answer.columns), answer.rows, answer.truncated),
        row_count=answer.total,
        table=table,
        table_version=version,
        elapsed_ms=(time.perf_counter() - began) * 1000,
        table_version_before=before,
    )


def _moved(what: Classified, clone: str) -> str:
    """The same statement on another table."""
    assert what.writes is not None
    tree = what.tree.copy()
    for table in tree.find_all(exp.Table):
        if ".".join(part.name for part in table.parts).lower() == what.writes.lower():
            alias = table.args.get("alias")
            moved = exp.to_table(clone, dialect="databricks")
            moved.set("alias", alias or exp.TableAlias(this=exp.to_identifier(what.writes.split(".")[-1])))
            table.replace(moved if not isinstance(tree, exp.Insert) or table is not tree.this else exp.to_table(clone))
    return tree.sql(dialect="databricks")


def _digest(
    statement: Statement, target: str | None, versions: Mapping[str, int], before: int | None, plan: str
) -> str:
    parts = [statement.language, statement.text, target, sorted(versions.items()), before, plan]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _cell(answer: Answer, row: int, column: str) -> str | None:
    names = [name for name, _ in answer.columns]
    return answer.rows[row][names.index(column)] if len(answer.rows) > row and column in names else None


def _check_name(table: str) -> None:
    """Names go into SQL as they are, so they must be names. Raises StatementRefused."""
    if not _NAME.fullmatch(table):
        raise StatementRefused("sql.relation", f"{table!r} is no table: name tables as schema.table")
