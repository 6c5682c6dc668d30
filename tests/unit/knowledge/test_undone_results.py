"""Results that were undone are no longer published, until the undo is undone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bus.log.table import DeltaLog
from schemas.tables import EXECUTIONS
from workers.adapters.knowledge.results import DeltaResultCatalog

OLDER = {"table_version_before", "settled_by", "proof", "undoes"}


class Runs:
    def __init__(self, folder: Path) -> None:
        self.table = DeltaLog(folder / "executions", EXECUTIONS)
        self.table.create()
        self.catalog = DeltaResultCatalog(self.table, folder / "warehouse", str.lower)
        self.count = 0

    def done(self, grant: str, question: str, version: int, before: int | None, **more: Any) -> None:
        self.count += 1
        row = {
            "grant_id": grant,
            "step": "done",
            "question": question,
            "code": "…",
            "target": "results.x",
            "table_version": version,
            "table_version_before": before,
            "approved_by": "ada",
            "timestamp": pa.scalar(self.count, pa.timestamp("us", tz="UTC")),
            "log_version": self.count,
            "seq": 0,
        } | more
        self.table.append(pa.Table.from_pylist([row], schema=EXECUTIONS.file_schema))

    def found(self, *questions: str) -> list[int | None]:
        results = [self.catalog.find(question) for question in questions]
        return [None if one is None else one.table_version for one in results]


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    made = Runs(tmp_path)
    made.done("g0", "first", 0, None)
    made.done("g1", "second", 1, 0)
    made.done("g2", "third", 2, 1)
    return made


def test_what_was_undone_is_not_published_and_what_was_before_is(runs: Runs) -> None:
    assert runs.found("first", "second", "third") == [0, 1, 2]
    runs.done("u2", "Undo g2", 3, 2, undoes="g2")
    assert runs.found("first", "second", "third", "undo g2") == [0, 1, None, None]
    # An undo over what came later.
    runs.done("g3", "fourth", 4, 3)
    runs.done("u0", "Undo g1", 5, 4, undoes="g1")
    assert runs.found("first", "second", "third", "fourth") == [0, None, None, None]


def test_an_undo_that_is_undone_took_nothing_back(runs: Runs) -> None:
    runs.done("u2", "Undo g2", 3, 2, undoes="g2")
    runs.done("uu", "Undo u2", 4, 3, undoes="u2")
    assert runs.found("first", "second", "third") == [0, 1, 2]


def test_a_table_that_was_made_and_undone_leaves_nothing(runs: Runs) -> None:
    runs.done("u0", "Undo g0", 3, 2, undoes="g0")
    assert runs.found("first", "second", "third") == [None, None, None]


def test_another_table_is_not_concerned_nor_an_undo_of_what_nobody_knows(runs: Runs) -> None:
    runs.done("h0", "other", 1, 0, target="results.y")
    runs.done("u2", "Undo g1", 3, 2, undoes="g1")
    runs.done("u9", "Undo g9", 2, 1, undoes="g9", target="results.y")
    assert runs.found("first", "other") == [0, 1]


def test_a_table_of_an_older_release_is_read_as_it_is(tmp_path: Path) -> None:
    from dataclasses import replace

    old = replace(EXECUTIONS, columns=tuple(c for c in EXECUTIONS.columns if c.name not in OLDER))
    table = DeltaLog(tmp_path / "executions", old)
    table.create()
    row = {"grant_id": "g", "step": "done", "question": "q", "target": "results.x", "table_version": 4}
    when = {"timestamp": pa.scalar(1, pa.timestamp("us", tz="UTC")), "log_version": 1, "seq": 0}
    table.append(pa.Table.from_pylist([row | when], schema=old.file_schema))
    catalog = DeltaResultCatalog(DeltaLog(tmp_path / "executions", EXECUTIONS), tmp_path, str.lower)
    found = catalog.find("Q")
    assert found is not None
    assert found.table_version == 4
