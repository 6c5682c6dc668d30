"""The executor: takes a statement through parser, guard, analyser and planner, and runs exactly the plan that was checked."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Sequence
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

#: Delta refuses these in a column's name, and only when the data is written.
_UNSAVABLE_NAME = re.compile(r"[ ,;{}()\n\t=]")
_UNSAVABLE_TYPES = ("void", "interval")

#: Java puts the classes of nested exceptions before what they say.
_EXCEPTION_NAMES = re.compile(r"^(?:[\w.$]+(?:Exception|Error): )+")


@dataclass(frozen=True)
class _Prepared:
    frame: DataFrame
    columns: list[str]
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

    def warm(self) -> None:
        """Load the classes that a first dry run, query and write need, without changing the lakehouse."""
        self._catalogue.refresh()
        for sql in (self._typical_query(), "SELECT 1 AS a"):
            with contextlib.suppress(PortError), _failures():  # one broken table must not keep the engine from starting
                kept = self._kept(self._prepare(sql, None).frame)
                self._write(kept, self._scratch / "warm", "warm", "warm")
                return

    def _typical_query(self) -> str:
        """A join, a sum of decimals and an order, over as few rows as there are."""
        table = self._catalogue.smallest_table()
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
            "statement_class": "select",
            "columns": [column.rpartition(" ")[0] for column in prepared.columns],
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
        with _failures():
            frame = ClassicDataFrame(self._frame(self._plans.pinned(analyzed)), self._spark)
            mode = self._jvm.org.apache.spark.sql.execution.ExplainMode.fromString("formatted")
            plan = normalised(frame._jdf.queryExecution().explainString(mode), str(self._home))
        columns = [f"{name} {kind}" for name, kind in frame.dtypes]
        if target is not None:
            _refuse_unsavable(frame, target)
        return _Prepared(frame, columns, versions, plan, digest(sql, target, versions, columns, plan), path)

    def _frame(self, plan: Any) -> Any:
        return self._jvm.org.apache.spark.sql.classic.Dataset.ofRows(self._spark._jsparkSession, plan)

    def _read(self, prepared: _Prepared, row_limit: int) -> dict[str, Any]:
        with _failures():
            rows = prepared.frame.limit(row_limit + 1).collect()
            count = len(rows) if len(rows) <= row_limit else prepared.frame.count()
        return _executed(prepared.frame, rows, row_limit, count)

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
        with _failures():
            kept = self._kept(prepared.frame)
            try:
                count = kept.count()
                rows = kept.limit(row_limit + 1).collect()
                writing()
                self._write(kept, path, grant_id, hashlib.sha256(sql.encode()).hexdigest())
            except Exception:
                # A hook after the commit may fail; what counts is what the log says.
                if history.outcome_at(path, target, grant_id) is None:
                    raise
            finally:
                kept.unpersist()
        outcome = history.outcome_at(path, target, grant_id)
        if outcome is None:
            raise StatementFailed(
                f"{target} was not written, although Spark reported no error: run it again with a new grant"
            )
        return {
            **_executed(prepared.frame, rows, row_limit, count),
            "table": target,
            "table_version": outcome.table_version,
        }

    def _kept(self, frame: DataFrame) -> DataFrame:
        """The result, computed once: what is shown, counted and saved are the same rows in the same order."""
        rows = frame.limit(IN_MEMORY_ROWS + 1)._jdf.collectAsList()
        if len(rows) > IN_MEMORY_ROWS:
            return frame.persist()
        local = self._spark._jsparkSession.createDataFrame(rows, frame._jdf.schema())
        return ClassicDataFrame(local, self._spark).coalesce(1)

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


def _executed(frame: DataFrame, rows: Sequence[Any], row_limit: int, count: int) -> dict[str, Any]:
    return {
        "columns": frame.columns,
        "rows": [[cell(value) for value in row] for row in rows[:row_limit]],
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

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, PySparkException | Py4JJavaError):
            raise StatementFailed(_first_lines(error)) from error


def _first_lines(error: Exception) -> str:
    text = str(error.java_exception.toString()) if isinstance(error, Py4JJavaError) else str(error)
    lines = [line.strip() for line in text.strip().splitlines()]
    return _EXCEPTION_NAMES.sub("", lines[0] if lines else type(error).__name__)[:500]
