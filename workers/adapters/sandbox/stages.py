"""Stages: folders in which a statement is tried. A stage shows one version of a table without copying any of its files."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from workers.adapters.sandbox import history
from workers.adapters.sandbox.commits import Entry, entry_path, local_path, parsed, refuse_unknown_features
from workers.adapters.sandbox.plan_tree import PlanReader
from workers.ports import StatementRefused

_PREFIX = "stage-"

#: As Delta's own.
MOST_FILES_IN_CHECKSUM = 50


@dataclass(frozen=True)
class Stage:
    """`version`: which one of the table is shown; None when there is none yet. `files`: `add` actions of what it holds."""

    folder: Path
    version: int | None
    files: Sequence[dict[str, Any]]
    metadata: dict[str, Any] | None

    @property
    def bytes(self) -> int:
        return sum(int(file["size"]) for file in self.files)

    @property
    def columns(self) -> list[str]:
        fields = json.loads(self.metadata["schemaString"])["fields"] if self.metadata else []
        return [f"{found['name']} {json.dumps(found['type']).strip(chr(34))}" for found in fields]


class Stages:
    def __init__(self, spark: SparkSession, plans: PlanReader, scratch: Path) -> None:
        self._session = spark._jsparkSession
        self._jvm: Any = spark.sparkContext._gateway.jvm
        self._plans = plans
        self._scratch = scratch
        self._numbers = itertools.count(1)

    def clear(self) -> None:
        """What an earlier request left: whoever wanted it has taken it."""
        for folder in self._scratch.glob(f"{_PREFIX}*"):
            shutil.rmtree(folder, ignore_errors=True)

    def empty(self) -> Stage:
        """For a table that is not there yet."""
        return Stage(self._folder(), None, (), None)

    def of(self, path: Path, table: str) -> Stage:
        """The newest version: the same files under the same names by links, in a log of its own that begins with them."""
        opened = history.open_table(path)
        if opened is None:
            raise StatementRefused("target.missing", f"there is no table {table}: create it first")
        refuse_unknown_features(opened, table)
        none = self._jvm.scala.Option.empty()
        snapshot = self._jvm.org.apache.spark.sql.delta.DeltaLog.forTable(self._session, str(path)).update(
            False, none, none
        )
        actions = self._jvm.java.util.ArrayList(snapshot.allFiles().collectAsList())
        actions.add(snapshot.metadata())
        actions.add(snapshot.protocol())
        log = self._plans.actions(actions)
        found = parsed(log)
        folder = self._folder()
        (folder / "_delta_log").mkdir(parents=True)
        for action in found.adds:
            place = local_path(action["path"])
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            os.symlink(path / place, folder / place)
        entry_path(folder, 0).write_text(log)
        entry_path(folder, 0).with_suffix(".crc").write_text(_checksum(found))
        return Stage(folder, int(snapshot.version()), found.adds, found.metadata)

    def _folder(self) -> Path:
        return self._scratch / f"{_PREFIX}{next(self._numbers)}" / "table"


def _checksum(entry: Entry) -> str:
    """What Delta would otherwise find out by several jobs over the log: how much is in the table, and of which kind."""
    known = {
        "tableSizeBytes": sum(int(file["size"]) for file in entry.adds),
        "numFiles": len(entry.adds),
        "numMetadata": 1,
        "numProtocol": 1,
        "setTransactions": [],
        "domainMetadata": [],
        "metadata": entry.metadata,
        "protocol": entry.protocol,
    }
    if len(entry.adds) <= MOST_FILES_IN_CHECKSUM:
        known["allFiles"] = entry.adds
    return json.dumps(known)
