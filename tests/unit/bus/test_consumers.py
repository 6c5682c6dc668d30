"""Consumers: a position is written seldom, read by whoever asks, and forgotten in good time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bus.log.consumers import IDLE_S, LOST_AFTER_S, MOVED_S, Consumers, Registered
from bus.log.table import DeltaLog
from schemas.tables import AGENT_MESSAGES


class Time:
    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def pass_by(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def consumers(tmp_path: Path, time: Time) -> Consumers:
    return Consumers(DeltaLog(tmp_path, AGENT_MESSAGES, now=time))


def versions(consumers: Consumers) -> dict[str, int]:
    return {one.name: one.version for one in consumers.all()}


def test_the_slowest_comes_first(consumers: Consumers) -> None:
    consumers.note("quick", 90)
    consumers.note("slow", 5)
    assert [one.name for one in consumers.all()] == ["slow", "quick"]
    slowest = consumers.slowest()
    assert slowest is not None
    assert (slowest.name, slowest.lost) == ("slow", False)


def test_it_writes_seldom_but_never_stays_silent(consumers: Consumers, time: Time) -> None:
    consumers.note("a", 1)
    consumers.note("a", 2)
    assert versions(consumers) == {"a": 1}
    time.pass_by(MOVED_S)
    consumers.note("a", 2)
    assert versions(consumers) == {"a": 2}
    (before,) = consumers.all()
    time.pass_by(MOVED_S)
    consumers.note("a", 2)
    assert consumers.all() == [before]
    time.pass_by(IDLE_S)
    consumers.note("a", 2)
    assert consumers.all() != [before]


def test_a_clock_that_went_back_silences_nobody(consumers: Consumers, time: Time) -> None:
    consumers.note("a", 1)
    time.pass_by(-3600)
    consumers.note("a", 2)
    assert versions(consumers) == {"a": 2}


def test_the_silent_are_lost_and_hold_nothing(consumers: Consumers, time: Time) -> None:
    consumers.note("gone", 1)
    time.pass_by(LOST_AFTER_S + 1)
    consumers.note("here", 7)
    assert [(one.name, one.lost) for one in consumers.all()] == [("gone", True), ("here", False)]
    slowest = consumers.slowest()
    assert slowest is not None
    assert slowest.name == "here"
    consumers.bury(after_s=86_400)
    assert set(versions(consumers)) == {"gone", "here"}
    consumers.bury(after_s=LOST_AFTER_S)
    assert set(versions(consumers)) == {"here"}


def test_a_word_that_cannot_be_read_is_no_consumer(consumers: Consumers, tmp_path: Path) -> None:
    consumers.note("a", 1)
    (tmp_path / "_tailrace" / "consumers" / "b.json").write_text("{half")
    (tmp_path / "_tailrace" / "consumers" / "c.json").write_text("{}")
    assert versions(consumers) == {"a": 1}


@pytest.mark.parametrize("version", ['"seven"', "null", "[]", "1e999"])
def test_a_position_that_is_no_number_stops_nobody(consumers: Consumers, tmp_path: Path, version: str) -> None:
    consumers.note("a", 1)
    word = f'{{"name": "b", "version": {version}, "host": "h", "at_ms": 1767225600000}}'
    (tmp_path / "_tailrace" / "consumers" / "b.json").write_text(word)
    assert versions(consumers) == {"a": 1}


def test_a_word_from_the_future_holds_nothing_back_for_ever(consumers: Consumers, time: Time) -> None:
    time.pass_by(10 * 86_400)
    consumers.note("clock was ahead", 1)
    time.pass_by(-10 * 86_400)
    consumers.note("here", 7)
    slowest = consumers.slowest()
    assert slowest is not None
    assert slowest.name == "here"
    consumers.bury()
    assert versions(consumers) == {"here": 7}


@pytest.mark.parametrize("name", ["../../escape", "a/b", "ü x"])
def test_a_name_stays_in_its_folder(consumers: Consumers, tmp_path: Path, name: str) -> None:
    consumers.note(name, 3)
    assert versions(consumers) == {name: 3}
    assert [path.parent.name for path in tmp_path.rglob("*.json")] == ["consumers"]
    consumers.forget(name)
    assert versions(consumers) == {}


def test_a_companion_speaks_while_it_runs_and_says_goodbye(consumers: Consumers) -> None:
    companion = Registered(consumers, "host", lambda: 42, every_s=0.001)
    companion.start()
    assert versions(consumers) == {"host": 42}
    companion.stop()
    companion.stop()
    assert versions(consumers) == {}


def test_who_is_buried_is_whose_file_it_was(consumers: Consumers, time: Time, tmp_path: Path) -> None:
    consumers.note("here", 7)
    folder = tmp_path / "_tailrace" / "consumers"
    # Somebody's copy, old, and under another name than it says.
    (folder / "copy.json").write_text((folder / "here.json").read_text())
    time.pass_by(2 * 86_400)
    consumers.note("here", 9)
    consumers.bury()
    assert sorted(path.name for path in folder.iterdir()) == ["here.json"]
    assert versions(consumers) == {"here": 9}


def test_a_file_that_cannot_be_read_is_left_to_whoever_put_it_there(
    consumers: Consumers, time: Time, tmp_path: Path
) -> None:
    consumers.note("a", 1)
    folder = tmp_path / "_tailrace" / "consumers"
    (folder / "b.json").write_text("{half")
    time.pass_by(2 * 86_400)
    consumers.bury()
    assert [path.name for path in folder.iterdir()] == ["b.json"]
