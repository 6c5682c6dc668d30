"""A catalogue in memory: what SparkTable asks of Spark, answered from a list of commits that several tables share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bus.errors import LogMissing
from bus.streaming.spark_table import Commit, SparkTable
from schemas.tables import AGENT_MESSAGES
from tests.contract.test_handling_after_the_commit import CommittedRows, ListTable


class Catalogue(CommittedRows):
    """`operations`: what the table's history says. `views`: the statements that made them."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[dict[str, Any]] = []
        self.views: list[str] = []
        #: How often everything was read, and what the feed was asked for.
        self.scans = 0
        self.asked: list[int] = []

    def table(self, *_: Any) -> CatalogueTable:
        return CatalogueTable(self)


class CatalogueTable(ListTable):
    name = "`main`.`tailrace`.`agent_messages`"
    spark = None

    def __init__(self, shared: Catalogue) -> None:
        super().__init__(shared)
        self.shared = shared

    def check(self) -> str:
        if not self.shared.operations:
            raise LogMissing(f"no table {self.name} that may be read")
        return "in-memory"

    def create(self) -> None:
        if not self.shared.operations:
            self.done("CREATE TABLE", version=0)

    def run(self, statement: str) -> None:
        self.shared.views.append(statement)

    def done(self, operation: str, **more: Any) -> None:
        one = {
            "version": len(self.shared.commits),
            "operation": operation,
            "operationParameters": {},
            "userName": "eve",
        }
        self.shared.operations.append(one | more)

    def history(self) -> list[dict[str, Any]]:
        return list(self.shared.operations)

    def changes(self, since: int) -> list[Commit]:
        self.shared.asked.append(since)
        return super().changes(since)

    scan = SparkTable.scan  # the real one, over these rows

    def rows(
        self,
        columns: Sequence[str] | None = None,
        among: Mapping[str, Sequence[str]] = MappingProxyType({}),
        above: int | None = None,
    ) -> pa.Table:
        self.shared.scans += columns is None and not among and above is None
        with self.shared.lock:
            there = [commit for commit in self.shared.commits if commit.num_rows]
        if not there:
            schema = AGENT_MESSAGES.arrow.append(pa.field("_commit_version", pa.int64()))
            there = [schema.empty_table()]
        found = pa.concat_tables(there)
        for column, values in among.items():
            found = found.filter(pc.field(column).isin(list(values)))
        if above is not None:
            found = found.filter(pc.field("_commit_version") > above)
        return found if columns is None else found.select([*columns, "_commit_version"])
