"""A set of ids says what a plain set would say, for at least as many as it promises to remember."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.ids import IdSet


@given(st.lists(st.text(max_size=5), max_size=60), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_the_newest_are_remembered_and_what_never_came_is_not_there(ids: list[str], limit: int) -> None:
    found = IdSet(limit)
    added: list[str] = []
    for one in ids:
        if found.add(one):
            added.append(one)
        assert one in found
        assert all(newest in found for newest in added[-limit:])
        assert len(found) <= 2 * limit
    assert "never" not in found


def test_a_written_set_is_the_same_set() -> None:
    found = IdSet(30_000)
    numbers = [f"{random.getrandbits(100):x}" for _ in range(50_000)]
    assert all(found.add(one) for one in numbers)
    loaded = IdSet(30_000)
    loaded.load(found.dump())
    assert len(loaded) == len(found) == 50_000
    assert all(one in loaded for one in numbers)
    assert not any(f"x{one}" in loaded for one in numbers[:5_000])
    assert loaded.add("another")
    assert not loaded.add("another")


def test_a_set_that_was_cut_off_is_refused() -> None:
    found = IdSet(10)
    found.add("one")
    old, new = found.dump()
    for block in (new[:-1], new[:100], new + b"x"):
        with pytest.raises(ValueError, match=r"cut off|multiple"):
            IdSet(10).load([old, block])
