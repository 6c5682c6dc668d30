"""Undo: what a table held comes back in one new version, and what cannot come back is refused before anybody approves it."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from workers.adapters.sandbox import publish
from workers.adapters.sandbox.restoring import RestoreEngine
from workers.ports import Outcome, Statement, StatementRefused

FIRST = [{"k": 1, "v": "a"}, {"k": 2, "v": "b"}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Version 0: two rows; 1: one of them changed and a column more; 2: another row."""
    path = tmp_path / "warehouse" / "results" / "t"
    write_deltalake(str(path), pa.Table.from_pylist(FIRST))
    changed = pa.Table.from_pylist([{"k": 1, "v": "a", "x": None}, {"k": 2, "v": "B", "x": 1.5}])
    write_deltalake(str(path), changed, mode="overwrite", schema_mode="overwrite")
    write_deltalake(str(path), pa.Table.from_pylist([{"k": 3, "v": "c", "x": 2.5}]), mode="append")
    return path


@pytest.fixture
def engine(tmp_path: Path) -> RestoreEngine:
    return RestoreEngine(tmp_path)


def ask(text: str, target: str | None = "results.t") -> Statement:
    return Statement("restore", text, target)


def rows(path: Path) -> list[dict]:
    return DeltaTable(str(path)).to_pyarrow_table().sort_by("k").to_pylist()


async def test_it_is_as_it_was_in_one_version_with_the_grant(engine: RestoreEngine, path: Path) -> None:
    dry = await engine.dry_run(ask("results.t TO VERSION 0"))
    done = await engine.run(ask("results.t TO VERSION 0"), "grant-1", 10, digest=dry.digest)

    assert rows(path) == FIRST
    assert (done.table, done.table_version, done.table_version_before) == ("results.t", 3, 2)
    newest = DeltaTable(str(path)).history(1)[0]
    assert (newest["operation"], json.loads(newest["userMetadata"])["grant_id"]) == ("RESTORE", "grant-1")
    assert await engine.outcome_of("grant-1", "results.t") == Outcome("results.t", 3)


async def test_the_dry_run_shows_the_difference_and_changes_nothing(engine: RestoreEngine, path: Path) -> None:
    before = sorted(path.rglob("*"))

    dry = await engine.dry_run(ask("results.t TO VERSION 0"))

    found = dry.effect
    assert sorted(path.rglob("*")) == before
    assert (dry.statement_class, dry.writes, dry.table_versions, dry.columns) == (
        "write", "results.t", {"results.t": 2}, ("k", "v"),
    )  # fmt: skip
    assert (found.version, found.rows_before, found.rows_after, found.added, found.removed) == (2, 3, 2, 1, 2)
    assert found.sample_added.rows == [[2, "b"]]
    assert sorted(found.sample_removed.rows) == [[2, "B", 1.5], [3, "c", 2.5]]


async def test_an_undo_can_be_undone(engine: RestoreEngine, path: Path) -> None:
    held = rows(path)
    await engine.run(ask("results.t TO VERSION 0"), "grant-1", 10)
    await engine.run(ask("results.t TO VERSION 2"), "grant-2", 10)

    assert rows(path) == held


async def test_where_there_was_no_table_it_is_emptied_and_its_history_stays(engine: RestoreEngine, path: Path) -> None:
    dry = await engine.dry_run(ask("results.t TO NOTHING"))
    done = await engine.run(ask("results.t TO NOTHING"), "grant-1", 10, digest=dry.digest)

    assert dry.statement_class == "delete"
    assert (dry.effect.rows_after, dry.effect.removed) == (0, 3)
    assert "no table before" in dry.effect.note
    assert (rows(path), done.table_version) == ([], 3)
    assert DeltaTable(str(path), version=2).to_pyarrow_table().num_rows == 3


async def test_a_write_between_dry_run_and_run_is_refused(engine: RestoreEngine, path: Path) -> None:
    dry = await engine.dry_run(ask("results.t TO VERSION 0"))
    write_deltalake(str(path), pa.Table.from_pylist([{"k": 4, "v": "d", "x": None}]), mode="append")
    held = rows(path)

    with pytest.raises(StatementRefused) as refused:
        await engine.run(ask("results.t TO VERSION 0"), "grant-1", 10, digest=dry.digest)

    assert refused.value.rule == "grant.dry_run_changed"
    assert rows(path) == held


async def test_a_write_between_check_and_commit_is_refused(
    engine: RestoreEngine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = publish.commit

    def late(*arguments: object) -> int:
        write_deltalake(str(path), pa.Table.from_pylist([{"k": 4, "v": "d", "x": None}]), mode="append")
        return commit(*arguments)

    monkeypatch.setattr(publish, "commit", late)  # the one moment that no test could hit otherwise

    with pytest.raises(StatementRefused) as refused:
        await engine.run(ask("results.t TO VERSION 0"), "grant-1", 10)

    assert refused.value.rule == "grant.dry_run_changed"
    assert await engine.outcome_of("grant-1", "results.t") is None
    assert len(rows(path)) == 4


async def test_a_grant_restores_once(engine: RestoreEngine, path: Path) -> None:
    await engine.run(ask("results.t TO VERSION 0"), "grant-1", 10)

    with pytest.raises(StatementRefused) as refused:
        await engine.run(ask("results.t TO VERSION 0"), "grant-1", 10)

    assert refused.value.rule == "grant.used"


async def test_what_was_vacuumed_cannot_come_back(engine: RestoreEngine, path: Path) -> None:
    DeltaTable(str(path)).vacuum(0, dry_run=False, enforce_retention_duration=False)

    with pytest.raises(StatementRefused) as refused:
        await engine.dry_run(ask("results.t TO VERSION 0"))

    assert refused.value.rule == "undo.vacuumed"


async def test_what_was_dropped_comes_back(engine: RestoreEngine, path: Path, tmp_path: Path) -> None:
    held = rows(path)
    publish.drop(path, tmp_path / "warehouse", 2, publish.Mark("grant-1", "0" * 64))
    assert not path.exists()

    dry = await engine.dry_run(ask("results.t TO VERSION 2"))
    assert not path.exists()
    done = await engine.run(ask("results.t TO VERSION 2"), "grant-2", 10, digest=dry.digest)

    assert (dry.effect.rows_before, dry.effect.added, done.table_version) == (0, 3, 4)
    assert rows(path) == held


async def test_partitions_compare_by_value(engine: RestoreEngine, tmp_path: Path) -> None:
    path = tmp_path / "warehouse" / "results" / "p"
    write_deltalake(str(path), pa.Table.from_pylist([{"k": 1, "p": "x y"}, {"k": 2, "p": None}]), partition_by=["p"])
    extra = pa.Table.from_pylist([{"k": 3, "p": "x y"}, {"k": 1, "p": "x y"}])
    write_deltalake(
        str(path), extra, mode="overwrite", commit_properties=CommitProperties(custom_metadata={"userMetadata": "x"})
    )

    dry = await engine.dry_run(ask("results.p TO VERSION 0", None))
    await engine.run(ask("results.p TO VERSION 0", None), "grant-1", 10, digest=dry.digest)

    assert (dry.effect.added, dry.effect.removed) == (1, 1)
    assert dry.effect.sample_removed.rows == [[3, "x y"]]
    assert rows(path) == [{"k": 1, "p": "x y"}, {"k": 2, "p": None}]


@pytest.mark.parametrize(
    ("text", "target", "rule"),
    [
        ("results.t TO VERSION 9", "results.t", "undo.version"),
        ("results.t TO VERSION -1", "results.t", "restore.syntax"),
        ("results.t TO VERSION 0; DROP TABLE results.t", "results.t", "restore.syntax"),
        ("RESTORE TABLE results.t TO VERSION AS OF 0", "results.t", "restore.syntax"),
        ("", "results.t", "restore.syntax"),
        ("results.t TO VERSION 0", "results.other", "target.mismatch"),
        ("results.never TO VERSION 0", "results.never", "target.missing"),
        ("tpch.nation TO NOTHING", "tpch.nation", "target.protected"),
        ("results/../tables TO NOTHING", None, "target.name"),
        ("results.../../keys TO NOTHING", None, "target.name"),
    ],
)
async def test_what_is_refused(engine: RestoreEngine, path: Path, text: str, target: str | None, rule: str) -> None:
    held = sorted(path.rglob("*"))

    for asked in (engine.dry_run(ask(text, target)), engine.run(ask(text, target), "grant-1", 10)):
        with pytest.raises(StatementRefused) as refused:
            await asked
        assert refused.value.rule == rule
    assert sorted(path.rglob("*")) == held
