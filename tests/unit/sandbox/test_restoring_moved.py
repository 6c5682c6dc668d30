"""An undo that says which version it takes back is refused when others have written since."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from workers.adapters.sandbox.restoring import RestoreEngine
from workers.ports import Statement, StatementRefused


async def test_what_was_written_since_is_not_undone_unasked(tmp_path: Path) -> None:
    path = tmp_path / "warehouse" / "results" / "t"
    for number in range(3):
        write_deltalake(str(path), pa.table({"k": [number]}), mode="append")
    engine = RestoreEngine(tmp_path)

    def ask(text: str) -> Statement:
        return Statement("restore", text, "results.t")

    with pytest.raises(StatementRefused, match="at version 2, not 1") as refused:
        await engine.dry_run(ask("results.t TO VERSION 0 FROM VERSION 1"))
    assert refused.value.rule == "undo.moved"
    dry = await engine.dry_run(ask("results.t TO VERSION 1 FROM VERSION 2"))
    # Between dry run and run as well.
    write_deltalake(str(path), pa.table({"k": [9]}), mode="append")
    with pytest.raises(StatementRefused, match="not 2"):
        await engine.run(ask("results.t TO VERSION 1 FROM VERSION 2"), "grant-1", 10, digest=dry.digest)
    await engine.run(ask("results.t TO VERSION 1"), "grant-1", 10)
    assert sorted(DeltaTable(str(path)).to_pyarrow_table()["k"].to_pylist()) == [0, 1]
