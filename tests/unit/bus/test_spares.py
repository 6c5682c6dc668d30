"""Files made ahead of need: each goes to one writer, in one process, and to nobody when it is gone."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from bus.log import spares as module
from bus.log.spares import KEPT, Spares
from bus.log.store import LocalStore


def settled() -> None:
    """Until the maker has done what it was asked to."""
    module._MAKERS.submit(lambda: None).result(20)


@pytest.fixture
def spares(tmp_path: Path) -> Spares:
    made = Spares(str(tmp_path))
    made.refill()
    settled()
    return made


def taken(spares: Spares) -> str:
    name, descriptor = spares.take()
    os.close(descriptor)
    return name


def test_each_goes_to_one_writer(spares: Spares, tmp_path: Path) -> None:
    there = {str(path) for path in tmp_path.iterdir()}
    assert len(there) == KEPT
    found = [taken(spares) for _ in range(KEPT + 1)]
    assert set(found) > there
    assert len(set(found)) == KEPT + 1


def test_one_that_clean_up_took_is_nobodys(spares: Spares, tmp_path: Path) -> None:
    for path in tmp_path.iterdir():
        path.unlink()
    assert Path(taken(spares)).exists()


def test_they_go_with_their_owner(tmp_path: Path) -> None:
    spares = Spares(str(tmp_path))
    spares.refill()
    settled()
    mine = taken(spares)
    del spares
    assert [str(path) for path in tmp_path.iterdir()] == [mine]


def test_a_folder_that_cannot_be_written_is_the_next_writers_trouble(tmp_path: Path) -> None:
    spares = Spares(str(tmp_path / "missing"))
    spares.refill()
    settled()
    with pytest.raises(FileNotFoundError):
        spares.take()


def test_a_commit_leaves_two_behind_and_takes_them_next_time(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put_if_absent("_delta_log/0.json", b"first")
    settled()
    scratch = tmp_path / "_tailrace" / "tmp"
    before = {path.stat().st_ino for path in scratch.iterdir()}
    assert len(before) == KEPT
    store.put("date=2026-01-01/part.parquet", b"rows")
    store.put_if_absent("_delta_log/1.json", b"second")
    written = {(tmp_path / name).stat().st_ino for name in ("date=2026-01-01/part.parquet", "_delta_log/1.json")}
    assert written == before
    assert store.get("_delta_log/1.json") == b"second"


def _write(store: LocalStore, name: str, line: Connection) -> None:
    line.send(store.put_if_absent(f"_delta_log/{name}.json", name.encode() * 1000))


def test_a_forked_child_does_not_write_into_its_parents_files(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put_if_absent("_delta_log/0.json", b"first")
    settled()
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_write, args=(store, "child", theirs))
    child.start()
    assert ours.recv()
    child.join(20)
    store.put_if_absent("_delta_log/parent.json", b"parent" * 1000)
    assert store.get("_delta_log/child.json") == b"child" * 1000
    assert store.get("_delta_log/parent.json") == b"parent" * 1000
