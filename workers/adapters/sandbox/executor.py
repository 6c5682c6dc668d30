"""The executor: takes a statement through parser, guard, analyser and planner, and runs exactly the plan that was checked.

It can write nothing but its scratch folder. A statement that changes a table is tried on a stage, which shows the target's newest
version without copying it; what the stage's log then says is the effect, shown by a dry run and published after a run by the
process outside (`publish.py`).
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyspark.errors.exceptions.captured import ParseException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.classic.dataframe import DataFrame as ClassicDataFrame

from schemas.payloads import EffectPreview
from workers.adapters.sandbox import guard, history
from workers.adapters.sandbox.catalogue import Catalogue
from workers.adapters.sandbox.columns import refuse_unsavable
from workers.adapters.sandbox.commits import Entry, read_entry, rows_in
from workers.adapters.sandbox.digest import digest, normalised
from workers.adapters.sandbox.effects import counted, effect
from workers.adapters.sandbox.failures import failures, first_lines
from workers.adapters.sandbox.names import WRITABLE, target_path
from workers.adapters.sandbox.plan_tree import PlanReader
from workers.adapters.sandbox.protocol import cell
from workers.adapters.sandbox.stages import Stage, Stages
from workers.adapters.sandbox.writes import Write
from workers.ports import PortError, StatementRefused

#: Rows. Up to here a result is computed into memory once, then saved and shown from there; a larger one goes through Spark's cache.
IN_MEMORY_ROWS = 10_000

#: Bytes of tables. Up to here a dry run tries a change on a stage; beyond, it says what it reads and that it did not try.
TRIED_BYTES = 256 * 1024 * 1024

#: Seconds that a virtual machine may take to end once its connection is lost.
DEATH_S = 2.0

#: How many tables are loaded before anybody asks for one, the smallest first.
WARM_TABLES = 16

#: What a statement that changes rows answers with.
COUNTS = ["added", "changed", "removed"]


@dataclass(frozen=True)
class _Prepared:
    """`frame`: the rows that are read or saved; `command`: the resolved plan of a statement that changes a table by itself."""

    statement_class: str
    versions: dict[str, int]
    plan: str
    columns: list[str]
    target: str | None = None
    path: Path | None = None
    verb: str = "select"
    frame: DataFrame | None = None
    command: Any = None
    stage: Stage | None = None
    digest: str = field(default="", compare=False)


class Executor:
    def __init__(
        self,
        spark: SparkSession,
        home: Path,
        schemas: Sequence[str],
        scratch: Path,
        writable: Sequence[str] = WRITABLE,
        tried_bytes: int = TRIED_BYTES,
    ) -> None:
        self._spark = spark
        self._home = home
        self._warehouse = home / "warehouse"
        self._schemas = tuple(schemas)
        self._writable = tuple(writable)
        self._tried_bytes = tried_bytes
        self._scratch = scratch
        self._catalogue = Catalogue(spark, self._warehouse, schemas, scratch)
        self._plans = PlanReader(spark.sparkContext._gateway)
        self._stages = Stages(spark, self._plans, scratch)
        self._jvm: Any = spark.sparkContext._gateway.jvm
        self._unloaded: list[str] = []
        #: What tables hold, by name and version: rows and bytes.
        self._sizes: dict[tuple[str, int], tuple[int, int]] = {}

    def warm(self) -> None:
        """Load the classes that a first dry run, query and write need, without changing the lakehouse."""
        self._catalogue.refresh()
        tables = self._catalogue.smallest_first()
        self._unloaded = tables[1:WARM_TABLES]
        for table in [*tables[:1], None]:
            with contextlib.suppress(PortError), failures():  # one broken table must not keep the engine from starting
                with self._prepared(self._typical_query(table), None) as ready, self._kept(ready.frame) as kept:
                    self._write(kept, self._scratch / "warm")
                return

    def load_next(self) -> bool:
        """Bring the state of one more table into memory; whether there are others. Delta takes a second for each."""
        if self._unloaded:
            with (
                contextlib.suppress(PortError),
                failures(),
                self._prepared(self._typical_query(self._unloaded.pop(0)), None),
            ):
                pass
        return bool(self._unloaded)

    def lives(self) -> bool:
        """Whether there is still a virtual machine; a lost connection comes a moment before its end."""
        try:
            self._spark.sparkContext._gateway.proc.wait(timeout=DEATH_S)
        except subprocess.TimeoutExpired:
            return True
        return False

    def _typical_query(self, table: str | None) -> str:
        """A join, a sum of decimals and an order, over as few rows as there are."""
        if table is None:
            return "SELECT 1 AS a"
        key = f"`{self._spark.table(table).columns[0]}`"
        return (
            f"SELECT a.{key} AS k, sum(1.5BD * (1 - 0.5BD)) AS v FROM {table} a JOIN {table} b ON a.{key} = b.{key} "
            f"GROUP BY a.{key} ORDER BY v DESC, k LIMIT 10"
        )

    # --- what is asked -----------------------------------------------------------------------------------------------

    def dry_run(self, sql: str, target: str | None) -> dict[str, Any]:
        with self._prepared(sql, target) as ready:
            rows, size = self._size_of(ready.versions)
            found = self._effect(ready, size)
        return {
            "statement_class": ready.statement_class,
            "writes": ready.target,
            "columns": [column.partition(" ")[0] for column in ready.columns],
            "table_versions": ready.versions,
            "plan": ready.plan,
            "digest": ready.digest,
            "estimated_rows": rows,
            "estimated_bytes": size,
            "effect": None if found is None else found.model_dump(mode="json"),
        }

    def run(self, sql: str, target: str | None, grant_id: str, row_limit: int, expected: str | None) -> dict[str, Any]:
        """What a query gives; of a statement that changes a table also where its effect is staged."""
        with self._prepared(sql, target) as ready:
            if expected is not None and ready.digest != expected:
                raise StatementRefused(
                    "grant.dry_run_changed",
                    "the tables or the plan are not those of the approved dry run: ask for a new one",
                )
            if ready.target is None:
                return self._read(ready, row_limit)
            if ready.path is not None and history.outcome_at(ready.path, ready.target, grant_id) is not None:
                raise StatementRefused(
                    "grant.used", f"grant {grant_id} already wrote {ready.target}: ask for a new one"
                )
            done = self._changed(ready, row_limit)
        version = ready.stage.version if ready.stage else ready.versions.get(ready.target)
        staged = None if ready.stage is None else str(ready.stage.folder.relative_to(self._scratch))
        verb = "create" if version is None else "replace" if ready.frame is not None else ready.verb
        return {**done, "staged": {"folder": staged, "target": ready.target, "version": version, "verb": verb}}

    # --- preparing ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _prepared(self, sql: str, target: str | None) -> Iterator[_Prepared]:
        """The statement, parsed, checked and resolved; it means the tables as they were at this moment."""
        self._stages.clear()
        guard.check_text(sql)
        if target is not None:
            self._path_of(target)
        with failures():
            parsed = self._parsed(sql)
            write = guard.check_parsed(self._plans.tree(parsed), self._schemas)
        if write is not None:
            target = _only_target(write, target)
        path = None if target is None else self._path_of(target)
        self._catalogue.refresh()
        with contextlib.ExitStack() as while_used:
            if target is None or path is None:
                ready = self._query(parsed, None, None)
            elif write is None or write.verb in ("create", "replace"):
                verb = "select" if write is None else write.verb
                ready = self._saving(parsed if write is None else parsed.query(), target, path, verb)
            elif write.verb == "drop":
                ready = self._dropping(target, path)
            else:
                ready = self._changing(parsed, write, target, path, while_used)
            hashed = digest(sql, ready.target, ready.versions, ready.columns, ready.plan)
            yield _with(ready, digest=hashed)

    def _parsed(self, sql: str) -> Any:
        try:
            return self._spark._jsparkSession.sessionState().sqlParser().parsePlan(sql)
        except ParseException as error:
            raise guard.unparsable(sql, first_lines(error)) from None

    def _query(self, parsed: Any, target: str | None, path: Path | None) -> _Prepared:
        with failures():
            # The plan object that was checked, never the text again: nothing can change between check and use.
            analyzed = self._frame(parsed).queryExecution().analyzed()
            versions = guard.check_analyzed(self._plans.tree(analyzed), self._warehouse, self._schemas)
            frame = ClassicDataFrame(self._frame(self._plans.pinned(analyzed)), self._spark)
            mode = self._jvm.org.apache.spark.sql.execution.ExplainMode.fromString("formatted")
            plan = normalised(frame._jdf.queryExecution().explainString(mode), str(self._home))
            columns = [f"{name} {kind}" for name, kind in frame.dtypes]
        return _Prepared("read", versions, plan, columns, target, path, frame=frame)

    def _saving(self, parsed: Any, target: str, path: Path, verb: str) -> _Prepared:
        """A query whose rows become the table, instead of all that it held."""
        ready = self._query(parsed, target, path)
        refuse_unsavable(ready.frame, target)
        history.refuse_foreign_table(path, target)
        if history.version_at(path) is None:
            return _with(ready, statement_class="create", verb=verb, stage=self._stages.empty())
        if verb == "create":
            raise StatementRefused(
                "target.exists", f"there is a table {target} already: use CREATE OR REPLACE, or another name"
            )
        with failures():
            stage = self._stages.of(path, target)
        versions = _sorted({**ready.versions, target: stage.version})
        return _with(ready, statement_class="write", verb=verb, stage=stage, versions=versions)

    def _dropping(self, target: str, path: Path) -> _Prepared:
        with failures():
            stage = self._stages.of(path, target)
        versions = {target: stage.version}
        return _Prepared("drop", versions, f"DropTable {target}", stage.columns, target, path, "drop", stage=stage)

    def _changing(
        self, parsed: Any, write: Write, target: str, path: Path, while_used: contextlib.ExitStack
    ) -> _Prepared:
        """INSERT, UPDATE, DELETE, MERGE, TRUNCATE and ALTER, by Delta's own commands, on the stage instead of the table."""
        with failures():
            stage = self._stages.of(path, target)
            while_used.enter_context(self._catalogue.shown_at(target, stage.folder))
            if write.verb == "truncate":
                parsed = self._parsed(f"DELETE FROM {target}")
            # Resolving alone runs nothing; a command would otherwise run as soon as it has a frame.
            state, mode = self._spark._jsparkSession.sessionState(), self._jvm.org.apache.spark.sql.execution
            resolved = state.executePlan(parsed, mode.CommandExecutionMode.SKIP()).analyzed()
            shown = guard.Snapshot(stage.folder, target, stage.version)
            tree = self._plans.tree(resolved)
            versions = guard.check_analyzed(tree, self._warehouse, self._schemas, write.verb, shown)
            # Below an ALTER there is only the table itself, with the time at which this session first saw it.
            said = parsed.toString() if write.verb == "alter" else resolved.toString()
            plan = normalised(said.replace(str(stage.folder), str(path)), str(self._home))
        return _Prepared(
            write.statement_class,
            versions,
            plan,
            stage.columns,
            target,
            path,
            write.verb,
            command=resolved,
            stage=stage,
        )

    def _frame(self, plan: Any) -> Any:
        return self._jvm.org.apache.spark.sql.classic.Dataset.ofRows(self._spark._jsparkSession, plan)

    def _path_of(self, target: str) -> Path:
        return target_path(self._warehouse, target, self._schemas, self._writable)

    # --- effects -----------------------------------------------------------------------------------------------------

    def _effect(self, ready: _Prepared, size: int | None) -> EffectPreview | None:
        """Tried on the stage, unless it would take too long; of a new table only its query is known."""
        if ready.target is None:
            return None
        stage = ready.stage
        if stage is None or stage.version is None:
            note = "a new table: its rows are not computed before it is approved"
            return _unknown(ready.target, None, 0, note, removed=0, changed=0)
        before = sum(rows_in(file, stage.folder) for file in stage.files)
        if ready.verb == "alter":
            note = "only columns are added; every row has NULL in them"
            return EffectPreview(
                table=ready.target, version=stage.version, rows_before=before, rows_after=before,
                added=0, changed=0, removed=0, note=note[:1000],
            )  # fmt: skip
        if ready.verb == "drop":
            gone = Entry(info={"operation": history.DROP}, removes=list(stage.files))
            found = effect(ready.target, stage.version, stage.folder, stage.files, stage.metadata, gone)
            return found.model_copy(update={"note": f"the table goes; undo brings it back. {found.note}".strip()})
        if size is None or size > self._tried_bytes:
            note = f"not tried: it reads {size or 'an unknown number of'} bytes, more than {self._tried_bytes}"
            return _unknown(ready.target, stage.version, before, note)
        with failures():
            self._apply(ready)
        entry = read_entry(stage.folder, Path(), 1) or Entry()
        return effect(ready.target, stage.version, stage.folder, stage.files, stage.metadata, entry)

    def _changed(self, ready: _Prepared, row_limit: int) -> dict[str, Any]:
        """Do it on the stage; the answer says what happened there."""
        if ready.frame is not None:
            with failures(), self._kept(ready.frame) as kept:
                done = _executed(kept, row_limit)
                self._write(kept, ready.stage.folder)
            return done
        if ready.verb == "drop":
            rows = sum(rows_in(file, ready.stage.folder) for file in ready.stage.files)
            return _counts(0, 0, rows)
        with failures():
            self._apply(ready)
        self._still_as_read(ready)
        entry = read_entry(ready.stage.folder, Path(), 1)
        if entry is None or ready.verb == "alter":
            return _counts(0, 0, 0)
        counts = counted(entry)
        if counts is None:  # it replaced everything: rows have to be compared
            stage = ready.stage
            found = effect(ready.target, stage.version, stage.folder, stage.files, stage.metadata, entry)
            counts = found.added, found.changed, found.removed
        return _counts(*counts)

    def _apply(self, ready: _Prepared) -> None:
        if ready.frame is None:
            self._frame(ready.command)
            return
        with self._kept(ready.frame) as kept:
            self._write(kept, ready.stage.folder)

    def _still_as_read(self, ready: _Prepared) -> None:
        """Delta's commands read other tables as they find them; what they found must be what was checked."""
        for table, version in ready.versions.items():
            schema, _, name = table.partition(".")
            if history.version_at(self._warehouse / schema / name) != version:
                raise StatementRefused(
                    "grant.dry_run_changed", f"{table} changed while the statement ran: ask for a new dry run"
                )

    def _read(self, ready: _Prepared, row_limit: int) -> dict[str, Any]:
        with failures(), self._kept(ready.frame) as kept:
            done = _executed(kept, row_limit)
            if done["truncated"]:
                folder = self._stages.empty().folder
                kept.coalesce(1).write.parquet(str(folder))
                (file,) = folder.glob("part-*.parquet")
                done["whole"] = str(file.relative_to(self._scratch))
        return done

    def _size_of(self, versions: dict[str, int]) -> tuple[int | None, int | None]:
        """Rows and bytes of the tables a statement reads: no more than these are read. None where a table does not say."""
        rows, size = 0, 0
        for table, version in versions.items():
            if (table, version) not in self._sizes:
                schema, _, name = table.partition(".")
                found = history.size_at(self._warehouse / schema / name, version)
                if found is None:
                    return None, None
                self._sizes[table, version] = found
            rows += self._sizes[table, version][0]
            size += self._sizes[table, version][1]
        return rows, size

    @contextlib.contextmanager
    def _kept(self, frame: DataFrame) -> Iterator[DataFrame]:
        """The result, computed once: what is shown, counted and saved are the same rows in the same order."""
        rows = frame.limit(IN_MEMORY_ROWS + 1)._jdf.collectAsList()
        if len(rows) <= IN_MEMORY_ROWS:
            local = self._spark._jsparkSession.createDataFrame(rows, frame._jdf.schema())
            yield ClassicDataFrame(local, self._spark).coalesce(1)
            return
        cached = frame.persist()
        try:
            yield cached
        finally:
            cached.unpersist()

    def _write(self, frame: DataFrame, folder: Path) -> None:
        frame.write.format("delta").mode("overwrite").option("overwriteSchema", "true").save(str(folder))


def _with(ready: _Prepared, **changes: Any) -> _Prepared:
    return _Prepared(**{**ready.__dict__, **changes})


def _sorted(versions: dict[str, Any]) -> dict[str, int]:
    return dict(sorted(versions.items()))


def _only_target(write: Write, declared: str | None) -> str:
    if declared is not None and declared != write.target:
        raise StatementRefused(
            "target.mismatch", f"the statement changes {write.target}, and {declared} was declared as the target"
        )
    return write.target


def _unknown(table: str, version: int | None, before: int, note: str, **known: int) -> EffectPreview:
    nothing: dict[str, Any] = {"rows_after": None, "added": None, "changed": None, "removed": None}
    return EffectPreview(table=table, version=version, rows_before=before, note=note, **{**nothing, **known})


def _counts(added: int, changed: int, removed: int) -> dict[str, Any]:
    return {
        "columns": COUNTS,
        "rows": [[added, changed, removed]],
        "truncated": False,
        "row_count": added + changed + removed,
    }


def _executed(kept: DataFrame, row_limit: int) -> dict[str, Any]:
    count = kept.count()
    rows = kept.limit(row_limit).collect()
    return {
        "columns": kept.columns,
        "rows": [[cell(value) for value in row] for row in rows],
        "truncated": count > row_limit,
        "row_count": count,
    }
