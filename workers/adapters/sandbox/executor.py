"""The executor: takes a statement through parser, guard, analyser and planner, and runs exactly the plan that was checked."""

from __future__ import annotations

import contextlib
import hashlib
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.errors.exceptions.captured import ParseException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.classic.dataframe import DataFrame as ClassicDataFrame

from workers.adapters.sandbox import guard, history
from workers.adapters.sandbox.catalogue import Catalogue
from workers.adapters.sandbox.digest import digest, normalised
from workers.adapters.sandbox.names import target_path
from workers.adapters.sandbox.plan_tree import PlanReader
from workers.adapters.sandbox.protocol import cell
from workers.ports import PortError, StatementFailed, StatementRefused

#: Rows. Up to here a result is computed into memory once, then saved and shown from there; a larger one goes through Spark's cache.
IN_MEMORY_ROWS = 10_000

#: Seconds that a virtual machine may take to end once its connection is lost.
DEATH_S = 2.0

#: How many tables are loaded before anybody asks for one, the smallest first.
WARM_TABLES = 16

#: Delta refuses these in a column's name, and only when the data is written.
_UNSAVABLE_NAME = re.compile(r"[ ,;{}()\n\t=]")
_UNSAVABLE_TYPES = ("void", "interval")

#: Java puts the classes of nested exceptions before what they say.
_EXCEPTION_NAMES = re.compile(r"^(?:[\w.$]+(?:Exception|Error): )+")


@dataclass(frozen=True)
class _Prepared:
    frame: DataFrame
    versions: dict[str, int]
    plan: str
    digest: str
    path: Path | None


class Executor:
    def __init__(self, spark: SparkSession, home: Path, schemas: Sequence[str], scratch: Path) -> None:
        self._spark = spark
        self._home = home
        self._warehouse = home / "warehouse"
        self._schemas = tuple(schemas)
        self._scratch = scratch
        self._catalogue = Catalogue(spark, self._warehouse, schemas, scratch)
        self._plans = PlanReader(spark.sparkContext._gateway)
        self._jvm: Any = spark.sparkContext._gateway.jvm
        self._unloaded: list[str] = []

    def warm(self) -> None:
        """Load the classes that a first dry run, query and write need, without changing the lakehouse."""
        self._catalogue.refresh()
        tables = self._catalogue.smallest_first()
        self._unloaded = tables[1:WARM_TABLES]
        for table in [*tables[:1], None]:
            with contextlib.suppress(PortError), _failures():  # one broken table must not keep the engine from starting
                with self._kept(self._prepare(self._typical_query(table), None).frame) as kept:
                    self._write(kept, self._scratch / "warm", "warm", "warm")
                return

    def load_next(self) -> bool:
        """Bring the state of one more table into memory; whether there are others. Delta takes a second for each."""
        if self._unloaded:
            with contextlib.suppress(PortError), _failures():
                self._prepare(self._typical_query(self._unloaded.pop(0)), None)
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

    def dry_run(self, sql: str, target: str | None) -> dict[str, Any]:
        prepared = self._prepare(sql, target)
        return {
            "statement_class": "read" if target is None else "create",
            "writes": target,
            "columns": prepared.frame.columns,
            "table_versions": prepared.versions,
            "plan": prepared.plan,
            "digest": prepared.digest,
        }

    def run(
        self,
        sql: str,
        target: str | None,
        grant_id: str,
        row_limit: int,
        expected: str | None,
        writing: Callable[[], None],
    ) -> dict[str, Any]:
        """`writing` is called right before the first thing that could change the lakehouse."""
        prepared = self._prepare(sql, target)
        if expected is not None and prepared.digest != expected:
            raise StatementRefused(
                "grant.dry_run_changed",
                "the tables or the plan are not those of the approved dry run: ask for a new one",
            )
        if target is None or prepared.path is None:
            return self._read(prepared, row_limit)
        if history.outcome_at(prepared.path, target, grant_id) is not None:
            raise StatementRefused("grant.used", f"grant {grant_id} already wrote {target}: ask for a new one")
        return self._save(prepared, target, prepared.path, sql, grant_id, row_limit, writing)

    def _prepare(self, sql: str, target: str | None) -> _Prepared:
        guard.check_text(sql)
        path = None if target is None else target_path(self._warehouse, target, self._schemas)
        with _failures():
            try:
                parsed = self._spark._jsparkSession.sessionState().sqlParser().parsePlan(sql)
            except ParseException as error:
                raise guard.unparsable(sql, _first_lines(error)) from None
            guard.check_parsed(self._plans.tree(parsed), self._schemas)
        if path is not None and target is not None:
            history.refuse_foreign_table(path, target)
        self._catalogue.refresh()
        with _failures():
            # The plan object that was checked, never the text again: nothing can change between check and use.
            analyzed = self._frame(parsed).queryExecution().analyzed()
            versions = guard.check_analyzed(self._plans.tree(analyzed), self._warehouse, self._schemas)
            frame = ClassicDataFrame(self._frame(self._plans.pinned(analyzed)), self._spark)
            mode = self._jvm.org.apache.spark.sql.execution.ExplainMode.fromString("formatted")
            plan = normalised(frame._jdf.queryExecution().explainString(mode), str(self._home))
        columns = [f"{name} {kind}" for name, kind in frame.dtypes]
        if target is not None:
            _refuse_unsavable(frame, target)
        return _Prepared(frame, versions, plan, digest(sql, target, versions, columns, plan), path)

    def _frame(self, plan: Any) -> Any:
        return self._jvm.org.apache.spark.sql.classic.Dataset.ofRows(self._spark._jsparkSession, plan)

    def _read(self, prepared: _Prepared, row_limit: int) -> dict[str, Any]:
        with _failures(), self._kept(prepared.frame) as kept:
            return _executed(kept, row_limit)

    def _save(
        self,
        prepared: _Prepared,
        target: str,
        path: Path,
        sql: str,
        grant_id: str,
        row_limit: int,
        writing: Callable[[], None],
    ) -> dict[str, Any]:
        with _failures(), self._kept(prepared.frame) as kept:
            done = _executed(kept, row_limit)
            writing()
            try:
                self._write(kept, path, grant_id, hashlib.sha256(sql.encode()).hexdigest())
            except Exception:
                # A hook after the commit may fail; what counts is what the log says.
                if history.outcome_at(path, target, grant_id) is None:
                    raise
        outcome = history.outcome_at(path, target, grant_id)
        if outcome is None:
            raise StatementFailed(
                f"{target} was not written, although Spark reported no error: run it again with a new grant"
            )
        return {**done, "table": target, "table_version": outcome.table_version}

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

    def _write(self, frame: DataFrame, path: Path, grant_id: str, code_sha256: str) -> None:
        (
            frame.write.format("delta")
            .mode("overwrite")
            .option("overwriteSchema", "true")
            .option("userMetadata", history.user_metadata(grant_id, code_sha256))
            .option("txnAppId", history.app_id(grant_id))
            .option("txnVersion", history.TXN_VERSION)
            .save(str(path))
        )


def _executed(kept: DataFrame, row_limit: int) -> dict[str, Any]:
    count = kept.count()
    rows = kept.limit(row_limit).collect()
    return {
        "columns": kept.columns,
        "rows": [[cell(value) for value in row] for row in rows],
        "truncated": count > row_limit,
        "row_count": count,
        "table": None,
        "table_version": None,
    }


def _refuse_unsavable(frame: DataFrame, target: str) -> None:
    """What Delta would refuse after the query has run, said before anybody approves it."""
    seen: set[str] = set()
    for name, kind in frame.dtypes:
        if name.lower() in seen or _UNSAVABLE_NAME.search(name):
            raise StatementRefused(
                "target.columns", f"column {name!r} cannot be saved to {target}: give it a name of its own with AS"
            )
        if kind.startswith(_UNSAVABLE_TYPES):
            raise StatementRefused("target.columns", f"column {name!r} is {kind}, which no table can hold: cast it")
        seen.add(name.lower())


class _failures:
    """Spark's errors as StatementFailed with their first sentence; a stack trace helps nobody who asked a question."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, PySparkException | Py4JJavaError):
            said = _first_lines(error)
            raise guard.too_deep() if said.endswith("StackOverflowError") else StatementFailed(said) from error
        if isinstance(error, RecursionError):
            raise guard.too_deep() from error


def _first_lines(error: Exception) -> str:
    text = str(error.java_exception.toString()) if isinstance(error, Py4JJavaError) else str(error)
    lines = [line.strip() for line in text.strip().splitlines()]
    return _EXCEPTION_NAMES.sub("", lines[0] if lines else type(error).__name__)[:500]
