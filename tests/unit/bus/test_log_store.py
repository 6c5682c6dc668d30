"""Stores: what the log may rely on, whatever it stands on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bus.log.store import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "table")


def test_a_listing_names_what_is_below_a_folder_with_size_and_time(store: LocalStore) -> None:
    store.put("date=2026-01-01/a.parquet", b"123")
    store.put("_delta_log/0.json", b"")
    os.utime(store.root / "date=2026-01-01/a.parquet", ns=(0, 1_767_225_600_123_000_000))
    (found,) = store.list("date=2026-01-01")
    assert (found.path, found.size, found.modified_ms) == ("date=2026-01-01/a.parquet", 3, 1_767_225_600_123)
    assert {one.path for one in store.list()} == {"date=2026-01-01/a.parquet", "_delta_log/0.json"}
    assert store.list("nowhere") == []


def test_deleting_twice_is_deleting(store: LocalStore) -> None:
    store.put("a", b"1")
    store.delete("a")
    store.delete("a")
    assert store.get("a") is None
    assert store.put_if_absent("a", b"2")


def test_a_replaced_file_is_whole_and_leaves_nothing_behind(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for content in (b"first", b"second, and longer"):
        store.replace("_delta_log/_last_checkpoint", content)
        assert store.get("_delta_log/_last_checkpoint") == content
    assert [one.path for one in store.list()] == ["_delta_log/_last_checkpoint"]
