"""A table of an older release gets the columns it lacks, and nothing else: rows, ids and positions stay."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from bus.errors import ForeignLog
from bus.log.checksum import Checksums
from bus.log.consumers import Consumers
from bus.log.entry import entry_path
from bus.log.table import DeltaLog
from bus.log.upkeep import Limits, Upkeep
from bus.projections.projector import Projection
from bus.projections.tables import execution_row
from schemas.columns import Column, TableSchema
from schemas.tables import EXECUTIONS

NEW = ("table_version_before", "settled_by", "proof", "undoes")
OLD = replace(EXECUTIONS, columns=tuple(c for c in EXECUTIONS.columns if c.name not in NEW))


def row(schema: TableSchema, **values: object) -> pa.Table:
    return pa.Table.from_pylist([{"grant_id": "g", "log_version": 1, "seq": 0, **values}], schema=schema.file_schema)


def older(folder: Path) -> DeltaLog:
    """As an older release left it."""
    table = DeltaLog(folder, OLD)
    table.create()
    table.append(row(OLD, step="done"), {"projector:executions": 7})
    return table


def test_an_older_table_is_widened_once_and_keeps_what_it_holds(tmp_path: Path) -> None:
    table_id = older(tmp_path).check()
    table = DeltaLog(tmp_path, EXECUTIONS)
    with pytest.raises(
        ForeignLog, match=r"lacks table_version_before, settled_by, proof, undoes: `tailrace init` adds them"
    ):
        table.check()
    table.create()
    head = table.head()
    table.create()
    assert table.head() == head
    assert table.check() == table_id
    table.append(row(EXECUTIONS, step="failed", proof="p", log_version=2))
    found = table.scan(["step", "proof", "log_version"])[0].sort_by("log_version").to_pylist()
    assert [(one["step"], one["proof"]) for one in found] == [("done", None), ("failed", "p")]
    # As any reader of Delta sees it.
    opened = DeltaTable(str(tmp_path))
    assert opened.transaction_version("projector:executions") == 7
    assert [field.name for field in opened.schema().fields] == [column.name for column in EXECUTIONS.columns]
    assert [entry.version for entry, _ in table.follow(-1)] == list(range(head + 2))


def test_a_projector_widens_the_table_it_writes(tmp_path: Path) -> None:
    older(tmp_path)
    projection = Projection(DeltaLog(tmp_path, EXECUTIONS), execution_row)
    assert projection.position() == 7
    assert DeltaLog(tmp_path, EXECUTIONS).check()
    head = projection.table.head()
    assert projection.position() == 7
    assert projection.table.head() == head


def test_upkeep_and_checksums_go_on_with_the_wider_table(tmp_path: Path) -> None:
    older(tmp_path)
    table = DeltaLog(tmp_path, EXECUTIONS)
    sums = Checksums(table)
    sums._load()
    table.create()
    sums._follow()
    table.append(row(EXECUTIONS, step="failed", proof="p", log_version=2))
    sums._follow()
    written = json.loads((tmp_path / "_delta_log" / f"{table.head():020d}.crc").read_text())
    assert "settled_by" in written["metadata"]["schemaString"]
    Upkeep(table, Consumers(table), Limits(checkpoint_every=1)).run(force=True)
    assert table.checkpoint_version() is not None
    assert table.check()
    assert table.scan()[0].num_rows == 2


def test_two_that_widen_at_once_write_one_entry(tmp_path: Path) -> None:
    older(tmp_path)
    before = DeltaLog(tmp_path, OLD).head()
    threads = [threading.Thread(target=DeltaLog(tmp_path, EXECUTIONS).create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert DeltaLog(tmp_path, EXECUTIONS).head() == before + 1


@pytest.mark.parametrize(
    "columns",
    [
        # Another type, another order, a column that nobody knows: no older release's.
        tuple(replace(c, type="string") if c.name == "row_count" else c for c in OLD.columns),
        (OLD.columns[1], OLD.columns[0], *OLD.columns[2:]),
        (*OLD.columns[:-1], Column("theirs", "string", ""), OLD.columns[-1]),
    ],
)
def test_what_differs_otherwise_is_not_ours_to_change(tmp_path: Path, columns: tuple[Column, ...]) -> None:
    DeltaLog(tmp_path, replace(OLD, columns=columns)).create()
    table = DeltaLog(tmp_path, EXECUTIONS)
    with pytest.raises(ForeignLog):
        table.create()
    assert table.head() == 0


def test_a_change_that_does_not_say_what_it_adds_is_still_foreign(tmp_path: Path) -> None:
    table = older(tmp_path)
    _, metadata = table.definition()
    (tmp_path / entry_path(table.head() + 1)).write_text(json.dumps({"metaData": dict(metadata)}) + "\n")
    with pytest.raises(ForeignLog, match="another writer was here"):
        table.entry(table.head())
