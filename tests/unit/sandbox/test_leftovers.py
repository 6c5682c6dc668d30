"""What executions leave below the warehouse goes when nothing needs it, and not a day earlier."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from workers.adapters.sandbox import history, publish
from workers.adapters.sandbox.leftovers import STAYS_S, Needed, Removed, tidy
from workers.adapters.sandbox.restoring import RestoreEngine
from workers.ports import Statement

NOW = 2_000_000_000.0
TARGET = "results.t"


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    (tmp_path / "warehouse").mkdir()
    return tmp_path / "warehouse"


def aged(place: Path, seconds: float) -> Path:
    for one in (place, *(place.rglob("*") if place.is_dir() else ())):
        os.utime(one, (NOW - seconds,) * 2)
    return place


def table(warehouse: Path, name: str = "t") -> Path:
    path = warehouse / "results" / name
    write_deltalake(str(path), pa.table({"n": [1, 2]}))
    return path


def dropped(warehouse: Path, grant: str, age: float, name: str = "t") -> Path:
    """A table that was made, and dropped under a grant so many seconds ago."""
    path = table(warehouse, name)
    publish.drop(path, warehouse, 0, publish.Mark(grant, "0" * 64))
    return aged(warehouse / publish.DROPPED / f"results.{name}" / grant, age)


def result(warehouse: Path, grant: str, age: float) -> Path:
    kept = warehouse / publish.RESULTS / f"{grant}.parquet"
    kept.parent.mkdir(exist_ok=True)
    kept.write_bytes(b"rows")
    return aged(kept, age)


def done(warehouse: Path, needed: Needed = Needed()) -> Removed:  # noqa: B008  # it is frozen
    return tidy(warehouse, NOW, lambda: needed)


def test_results_that_nothing_refers_to_go_after_a_day(warehouse: Path) -> None:
    orphan, young = result(warehouse, "orphan", STAYS_S + 1), result(warehouse, "young", STAYS_S - 60)
    kept = result(warehouse, "kept", 10 * STAYS_S)
    removed = done(warehouse, Needed(results={"kept.parquet"}))
    assert (removed.places, removed.bytes) == ([".results/orphan.parquet"], 4)
    assert (orphan.exists(), young.exists(), kept.exists()) == (False, True, True)


async def test_what_an_undo_brings_back_stays_however_old(warehouse: Path) -> None:
    old = dropped(warehouse, "grant-1", 30 * STAYS_S)
    newest = dropped(warehouse, "grant-2", 20 * STAYS_S)
    assert done(warehouse).places == [f".dropped/{TARGET}/grant-1"]
    assert (old.exists(), newest.exists()) == (False, True)
    engine = RestoreEngine(warehouse.parent)
    ask = Statement("restore", f"{TARGET} TO VERSION 0", TARGET)
    dry = await engine.dry_run(ask)
    back = await engine.run(ask, "grant-3", 10, digest=dry.digest)
    assert (back.table, history.version_at(warehouse / "results" / "t")) == (TARGET, 2)


def test_a_table_of_the_name_that_is_there_needs_no_dropped_one(warehouse: Path) -> None:
    grave = dropped(warehouse, "grant-1", 2 * STAYS_S)
    young = dropped(warehouse, "grant-2", STAYS_S - 60)
    table(warehouse)
    assert done(warehouse).places == [f".dropped/{TARGET}/grant-1"]
    assert (grave.exists(), young.exists()) == (False, True)
    assert list((warehouse / publish.NEW).iterdir()) == []


def test_what_may_be_the_proof_of_an_execution_in_doubt_stays(warehouse: Path) -> None:
    grave = dropped(warehouse, "grant-1", 2 * STAYS_S)
    table(warehouse)
    assert done(warehouse, Needed(targets={TARGET})).places == []
    assert history.outcome_anywhere(warehouse / "results/t", grave.parent, TARGET, "grant-1") is not None


def test_what_was_half_made_or_half_removed_goes(warehouse: Path) -> None:
    half = warehouse / publish.NEW / "gone-1"
    (half / "_delta_log").mkdir(parents=True)
    aged(half, STAYS_S + 1)
    (warehouse / publish.NEW / "begun").mkdir()
    os.utime(warehouse / publish.NEW / "begun", (NOW, NOW))
    assert done(warehouse).places == [".new/gone-1"]


def test_nothing_outside_is_followed_or_touched(warehouse: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "x").mkdir(parents=True)
    aged(outside, 10 * STAYS_S)
    for name in (publish.NEW, publish.DROPPED):
        (warehouse / name).mkdir()
        (warehouse / name / "link").symlink_to(outside)
    (warehouse / publish.RESULTS).symlink_to(outside)
    assert done(warehouse).places == []
    assert (outside / "x").exists()


def test_the_log_is_read_only_when_something_is_old(warehouse: Path) -> None:
    result(warehouse, "young", 60)
    assert tidy(warehouse, NOW, lambda: pytest.fail("nobody has to ask")).places == []
