"""The log of messages as a table that Spark writes: appended once by name and number, read in whole commits.

On Unity Catalog nobody but an engine may put an entry into a managed table's log, so the version of a commit is not known
before it is made. The rows say their place in the commit (`seq`) and leave `log_version` null; the order comes from the
table itself: `_commit_version` of the change feed for what is new, `_metadata.row_commit_version` (row tracking) for what
is old. Both survive OPTIMIZE. What cannot be tried outside Databricks: catalog-managed commits, and its own runtime.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import stamina
import structlog
from pyspark.errors import AnalysisException, PySparkException

from bus.errors import ForeignLog, LogError, LogMissing
from bus.log import rows as codec
from schemas.envelope import Message
from schemas.tables import AGENT_MESSAGES

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = structlog.get_logger(__name__)

#: What the table needs on top of `appendOnly`: the change feed says what is new, row tracking where an old row stood.
PROPERTIES = {
    "delta.enableChangeDataFeed": "true",
    "delta.enableRowTracking": "true",
    "delta.enableDeletionVectors": "false",
}
#: With it, a look beyond the newest version is no error and, for that, starts no job.
LOOK_AHEAD = "spark.databricks.delta.changeDataFeed.timestampOutOfRange.enabled"
NOTHING_YET = "DELTA_CDC_START_VERSION_AFTER_LATEST"
#: How often an append is tried before its outcome is left open.
ATTEMPTS = 4

_SCHEMA = AGENT_MESSAGES.arrow
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){0,2}")

#: One commit as it was read: its version and its rows, in order.
Commit = tuple[int, list[Message]]


class SparkTable:
    """`name` is `catalog.schema.table`. Safe for several threads; a bus should have a session of its own."""

    def __init__(
        self,
        spark: SparkSession,
        name: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        first_wait_s: float = 0.2,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise LogError(f"{name!r} is no table's name; write catalog.schema.table")
        self.spark = spark
        self.name = ".".join(f"`{part}`" for part in name.split("."))
        self._now = now
        self._first_wait = first_wait_s
        with contextlib.suppress(PySparkException):  # where it may not be set, the error says the same
            spark.conf.set(LOOK_AHEAD, "true")

    # --- opening -----------------------------------------------------------------------------------------------------

    def create(self) -> None:
        """Make the table unless it is there; then check that it is one of ours. Raises ForeignLog."""
        self.spark.sql(AGENT_MESSAGES.sql_ddl(self.name, PROPERTIES))
        self.check()

    def run(self, statement: str) -> None:
        """A statement beside the table, such as a view over it, in its schema."""
        schema = self.name.rpartition(".")[0]
        if schema:
            self.spark.sql(f"USE {schema}")
        self.spark.sql(statement)

    def check(self) -> str:
        """The table's id. Raises LogMissing, or ForeignLog when its columns or properties are not what a log needs."""
        try:
            detail = self.spark.sql(f"DESCRIBE DETAIL {self.name}").first()
            columns = self.spark.read.table(self.name).columns
        except AnalysisException as error:
            raise LogMissing(f"no table {self.name} that may be read: {_first_line(error)}") from error
        if detail is None or detail["format"] != "delta":
            raise ForeignLog(f"{self.name} is no Delta table")
        if columns != _SCHEMA.names:
            raise ForeignLog(f"{self.name} has columns {columns}, not those of agent_messages; nothing was written")
        properties = dict(detail["properties"])
        for key, value in {"delta.appendOnly": "true", **PROPERTIES}.items():
            if properties.get(key, "false") != value:
                raise ForeignLog(
                    f"{self.name} has {key} = {properties.get(key, 'false')}; the bus needs {value}. If every row is still "
                    f"as it was written: ALTER TABLE {self.name} SET TBLPROPERTIES ('{key}' = '{value}')"
                )
        return str(detail["id"])

    # --- appending ---------------------------------------------------------------------------------------------------

    def append(self, messages: Sequence[Message], app_id: str, number: int) -> None:
        """One commit. Called again with the same name and number it writes nothing if that commit is in the table.

        Raises LogError when Spark has not said yes: then the commit may or may not be there, or yet come.
        """
        rows = codec.to_arrow(messages, 0)
        place = rows.schema.get_field_index("log_version")
        rows = rows.set_column(place, "log_version", pa.nulls(len(messages), pa.int64()))
        rows = rows.append_column("date", pa.array([self._now().date()] * len(messages), pa.date32()))
        try:
            for attempt in stamina.retry_context(
                on=_may_pass, attempts=ATTEMPTS, wait_initial=self._first_wait, wait_max=2.0
            ):
                with attempt:
                    self._write(rows, app_id, number)
        except Exception as error:
            raise LogError(
                f"Spark could not append to {self.name}: {_first_line(error)}. Look at the table's permissions and at the "
                "cluster; the commit is tried again with the next one, and cannot be written twice"
            ) from error

    def _write(self, rows: pa.Table, app_id: str, number: int) -> None:
        frame = self.spark.createDataFrame(rows, AGENT_MESSAGES.spark_ddl)
        # One file: a commit is small, and its rows are read together.
        writer = frame.coalesce(1).write.format("delta").mode("append")
        writer.option("txnAppId", app_id).option("txnVersion", str(number)).saveAsTable(self.name)

    # --- reading -----------------------------------------------------------------------------------------------------

    def head(self) -> int:
        """The newest version."""
        return int(self.spark.sql(f"DESCRIBE HISTORY {self.name} LIMIT 1").collect()[0]["version"])

    def changes(self, since: int) -> list[Commit]:
        """Commits at or above `since`, none when nothing came yet; whole ones only, for a query reads one snapshot."""
        reader = self.spark.read.option("readChangeFeed", "true").option("startingVersion", str(since))
        try:
            return commits(reader.table(self.name).toArrow())
        except PySparkException as error:
            if error.getCondition() == NOTHING_YET:
                return []
            raise

    def scan(self, conversation: str | None = None, above: int | None = None) -> list[Commit]:
        """Every commit there is; of it, the rows of one conversation, or those committed above a version."""
        return commits(self.rows(None, {} if conversation is None else {"correlation_id": [conversation]}, above))

    def rows(
        self,
        columns: Sequence[str] | None = None,
        among: Mapping[str, Sequence[str]] = MappingProxyType({}),
        above: int | None = None,
    ) -> pa.Table:
        """Rows as they stand, with `_commit_version`, in no order. `among`: column -> values of which it has one."""
        from pyspark.sql import functions as F

        version = F.col("_metadata.row_commit_version").alias("_commit_version")
        frame = self.spark.read.table(self.name).select("*", version)
        for column, values in among.items():
            frame = frame.where(F.col(column).isin(list(values)))
        if above is not None:
            frame = frame.where(F.col("_commit_version") > F.lit(above))
        return (frame if columns is None else frame.select(*columns, "_commit_version")).toArrow()

    def history(self) -> list[dict[str, Any]]:
        """What was done to the table, as far back as it knows: version, operation, parameters and who; oldest first."""
        wanted = ("version", "timestamp", "operation", "operationParameters", "userName")
        found = self.spark.sql(f"DESCRIBE HISTORY {self.name}").select(*wanted).collect()
        return sorted((row.asDict() for row in found), key=lambda one: int(one["version"]))


#: What gives the rows of a commit one order, whoever wrote them.
ORDER = ("_commit_version", "seq", "message_id", "content", "handling_id", "signature")


def commits(found: pa.Table) -> list[Commit]:
    """Rows of the change feed, or of a scan, as commits in log order.

    Who writes without our numbering (an INSERT, another producer) still gets one order, the same for every reader:
    what stands in `seq`, then the message id, then the rest.
    """
    if "_change_type" in found.column_names:
        foreign = set(pc.unique(found.column("_change_type")).to_pylist()) - {"insert"}
        if foreign:
            raise ForeignLog(
                f"rows of agent_messages were changed ({', '.join(sorted(foreign))}): it is no log any more"
            )
    found = found.sort_by([(key, "ascending") for key in ORDER])
    versions = found.column("_commit_version").to_pylist()
    made: list[Commit] = []
    begin = 0
    for end in range(1, len(versions) + 1):
        if end == len(versions) or versions[end] != versions[begin]:
            made.append((versions[begin], codec.from_arrow(found.slice(begin, end - begin), versions[begin])))
            begin = end
    return made


def _may_pass(error: Exception) -> bool:
    """Whether trying again can help: not where the statement itself is refused."""
    return not isinstance(error, AnalysisException)


def _first_line(error: BaseException) -> str:
    said = error.getMessage() if isinstance(error, PySparkException) else None
    lines = (said or str(error) or type(error).__name__).strip().splitlines()
    # Before what the virtual machine says stands which call of ours it was, which helps nobody.
    return lines[1 if lines[0].startswith("An error occurred while calling") and len(lines) > 1 else 0].strip(": ")[
        :300
    ]
