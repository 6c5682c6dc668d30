"""What a replay is about when days have left for an archive: each handling once, wherever its rows are now."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import stamina
from deltalake import write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus.errors import UnreadableArchive
from bus.log import compaction, retention
from bus.log.table import DeltaLog
from jobs.replay.history import History
from jobs.replay.request import CannotReplay, ReplayRequest
from schemas.tables import AGENT_MESSAGES
from tests.unit.bus.logs import ids
from tests.unit.replay.story import Story


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


class Killed(BaseException):
    """The end of the process that moves days."""


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, at: str, after: int = 0) -> Iterator[None]:
    """Whoever retains ends before it calls this once more than so often. Commits: those by which rows leave."""
    module = compaction if at == "commit" else retention
    real: Callable[..., Any] = getattr(module, at)
    calls: list[int] = []

    def dies(*words: Any, **named: Any) -> Any:
        if at != "commit" or "DELETE" in words:
            calls.append(1)
        if len(calls) > after:
            raise Killed
        return real(*words, **named)

    with monkeypatch.context() as broken:
        broken.setattr(module, at, dies)
        with pytest.raises(Killed):
            yield


# --- both, as one log --------------------------------------------------------------------------------------------------


def test_the_table_and_the_archive_are_one_log(story: Story) -> None:
    for day in range(1, 7):
        story.handled(f"m{day}", day)
    before = story.found()
    story.retain(on=6)
    assert ids(story.log) == [f"{kind}m{day}" for day in (4, 5, 6) for kind in ("", "r-", "a-")]
    assert [name for name, _ in before] == [name for name, _ in story.found()] == [f"m{day}" for day in range(1, 7)]
    assert [name for name, there in story.found() if there] == ["m1", "m2", "m3"]


def test_what_came_out_comes_from_there_too(story: Story) -> None:
    story.handled("m1", 1)
    (before,) = story.history().recordings()
    story.retain(on=9)
    (after,) = story.history().recordings()
    assert [row.message_id for row in after.outputs] == ["a-m1"]
    assert (after.rows, after.outputs, after.receipt) == (before.rows, before.outputs, before.receipt)


@pytest.mark.parametrize("day", [3, 4])
def test_a_span_is_the_same_wherever_the_rows_are(story: Story, day: int) -> None:
    for each in range(1, 7):
        story.handled(f"m{each}", each)
    spans: list[dict[str, str]] = [
        {"since": f"2026-01-0{day}"},
        {"until": f"2026-01-0{day}"},
        {"since": str(2 * day)},
        {"until": str(2 * day)},
        {"correlation_id": f"c-m{day}"},
    ]
    before = [[name for name, _ in story.found(**span)] for span in spans]
    story.retain(on=6)
    assert [[name for name, _ in story.found(**span)] for span in spans] == before


def test_a_claim_that_has_left_is_known(story: Story) -> None:
    story.ask("m1", 1)
    said = {"grant_id": "g1", "agent": "A", "instance": "A-1"}
    event = {"from_agent": "A", "to_agent": "*", "message_type": "event", "kind": "ExecutionClaimed"}
    story.ask("claim", 1, "c-m1", content=json.dumps(said), causation_id="m1", **event)
    story.answer("m1", 1)
    story.retain(on=9)
    assert ids(story.log) == []
    assert [row.message_id for row in story.history().claims.values()] == ["claim"]


def test_an_agent_of_long_ago_is_known_by_name(story: Story) -> None:
    story.handled("m1", 1)
    story.handled("m9", 9)
    story.retain(on=9)
    assert [one.message.message_id for one in story.history(frozenset({"A"}), until="2026-01-02").recordings()] == [
        "m1"
    ]
    assert story.history(frozenset({"A"}), until="2025-01-01").total == 0
    with pytest.raises(CannotReplay, match="no agent called B"):
        story.history(frozenset({"B"}))


# --- cut off ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of many row groups, which go to the archive a few rows at a time."""
    monkeypatch.setattr(compaction, "GROUP", 4)
    monkeypatch.setattr(retention, "PART_ROWS", 4)


@pytest.mark.parametrize(("at", "after"), [("_archive", 4), ("commit", 1)])
def test_a_day_that_is_in_both_places_is_read_once(
    story: Story, in_parts: None, monkeypatch: pytest.MonkeyPatch, at: str, after: int
) -> None:
    """Ended in the middle of the second day; the first had left before."""
    for name in ("m1", "m1-too"):
        story.handled(name, 1)
    for n in range(6):
        story.handled(f"m2-{n}", 2)
    story.upkeep.run(force=True)
    before = story.found()
    with dying(monkeypatch, at, after):
        story.retain(on=9)
    assert set(story.archived()) & set(ids(story.log)), "nothing is in both: the test tests nothing"
    assert [name for name, _ in story.found()] == [name for name, _ in before]
    assert [name for name, there in story.found() if there] == ["m1", "m1-too"]
    story.retain(on=9)
    assert story.found() == [(name, True) for name, _ in before]


def test_a_conversation_of_which_the_first_day_has_left_is_whole(story: Story) -> None:
    """The second day waits for a projection; both are old."""
    story.ask("long", 1)
    story.answer("long", 2)
    story.retain(on=9, upto=1)
    assert (story.archived(), ids(story.log)) == (["long"], ["r-long", "a-long"])
    for request in ({}, {"correlation_id": "c-long"}, {"since": "2"}, {"since": "2026-01-02"}):
        assert story.found(**request) == [("long", True)]
    # A span that begins when no day had left any more: its conversation says that more is to be read.
    story.ask("later", 5, "c-long", causation_id="a-long")
    story.answer("later", 5, "c-long")
    assert story.found(since="2026-01-05") == [("later", False)]
    (one,) = story.history(since="2026-01-05").recordings()
    assert [row.message_id for row in one.known] == ["long", "a-long", "later"]


def test_days_that_went_to_two_archives_are_read_in_both_and_once(
    story: Story, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    story.handled("m1", 1)
    story.handled("m2", 2)
    with dying(monkeypatch, "commit", after=1):
        story.retain(on=9)
    story.archive = tmp_path / "another"
    story.retain(on=9)
    assert sorted(story.archived()) == ["a-m2", "m2", "r-m2"]
    assert len(retention.archives(story.log)) == 2
    assert story.found() == [("m1", True), ("m2", True)]


@pytest.mark.parametrize("scans", [0, 1])
def test_days_that_leave_while_they_are_read_are_neither_lost_nor_read_twice(
    story: Story, monkeypatch: pytest.MonkeyPatch, scans: int
) -> None:
    for day in (1, 2, 6):
        story.handled(f"m{day}", day)
    story.retain(on=4, days=2)
    assert story.archived() == ["m1", "r-m1", "a-m1"]
    reader = DeltaLog(story.log.path, AGENT_MESSAGES)
    real, done = reader.scan, []

    def scan(*words: Any, **named: Any) -> Any:
        found = real(*words, **named)
        done.append(1)
        if len(done) == scans + 1:
            story.retain(on=6)
        return found

    monkeypatch.setattr(reader, "scan", scan)
    history = History(reader, lambda _: True, ReplayRequest(), 0, None)
    assert [one.message.message_id for one in history.recordings()] == ["m1", "m2", "m6"]
    assert history.total == 3
    assert ids(story.log) == ["m6", "r-m6", "a-m6"]


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8),
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["_archive", "_note", "commit"]), st.integers(0, 2)), max_size=3
    ),
)
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_is_lost_or_read_twice_wherever_it_ends(
    tmp_path_factory: pytest.TempPathFactory,
    in_parts: None,
    monkeypatch: pytest.MonkeyPatch,
    sent: list[tuple[int, int, int]],
    passes: list[tuple[int, str, int]],
) -> None:
    story = Story(tmp_path_factory.mktemp("story"))
    steps = [(day, 0, n, talk) for n, (day, talk, _) in enumerate(sorted(sent))]
    steps += [(day + later, 1, n, talk) for n, (day, talk, later) in enumerate(sorted(sent))]
    for day, ends, n, talk in sorted(steps):
        (story.answer if ends else story.ask)(f"m{n}", day, f"c{talk}")
    story.upkeep.run(force=True)
    before = [name for name, _ in story.found()]
    assert len(before) == len(sent)
    last = max(day for day, *_ in steps)
    for later, at, after in passes:
        last += later
        try:
            with dying(monkeypatch, at, after):
                story.retain(on=last)
        except pytest.fail.Exception:
            pass  # it came to its end before
        here = set(ids(story.log))
        assert story.found() == [(name, name not in here) for name in before]


# --- archives that are not what they were --------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def impatient() -> Iterator[None]:
    """A log that cannot be read is not tried for seconds, as one would be to which somebody writes."""
    with stamina.set_testing(True, attempts=2):
        yield


@pytest.fixture
def left(story: Story) -> Story:
    """Three days of six have left."""
    for day in range(1, 7):
        story.handled(f"m{day}", day)
    story.retain(on=6)
    return story


def a_file(story: Story, day: str) -> Path:
    (file,) = story.place.glob(f"date={day}/*.parquet")
    return file


def gone(story: Story) -> str:
    story.archive.rename(story.archive.with_name("elsewhere"))
    return r"are in the archive \S+/archive/agent_messages, and it is not there"


def file_lost(story: Story) -> str:
    file = a_file(story, "2026-01-02")
    file.unlink()
    return rf"has lost the file date=2026-01-02/{file.name}"


def file_cut(story: Story) -> str:
    file = a_file(story, "2026-01-02")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return rf"a file that cannot be read, date=2026-01-02/{file.name}: "


def file_overwritten(story: Story) -> str:
    """In its middle: what a reader looks at first is sound."""
    file = a_file(story, "2026-01-02")
    data = bytearray(file.read_bytes())
    data[4:600] = b"\xff" * 596
    file.write_bytes(data)
    return rf"a file that cannot be read, date=2026-01-02/{file.name}: "


def entry_spoilt(story: Story) -> str:
    (story.place / "_delta_log" / f"{1:020d}.json").write_text("neither")
    return rf"its log cannot be read: the file _delta_log/{1:020d}\.json is spoilt"


def entry_lost(story: Story) -> str:
    (story.place / "_delta_log" / f"{1:020d}.json").unlink()
    return r"its log cannot be read \("


def older_copy(story: Story) -> str:
    (story.place / "_delta_log" / f"{2:020d}.json").unlink()
    return r"up to 2026-01-03 are in the archive .*, and what is there ends with 2026-01-02: it is an older copy"


def another_table(story: Story) -> str:
    shutil.rmtree(story.place)
    rows = pa.table({"log_version": ["one"], "date": ["2026-01-03"]})
    write_deltalake(str(story.place), rows, partition_by=["date"])
    return r"the archive \S+ cannot be read: "


SPOILING = [gone, file_lost, file_cut, file_overwritten, entry_spoilt, entry_lost, older_copy, another_table]


@pytest.mark.parametrize("spoil", SPOILING)
def test_an_archive_that_is_not_what_it_was_is_named(left: Story, spoil: Callable[[Story], str]) -> None:
    words = spoil(left)
    with pytest.raises(UnreadableArchive, match=words) as found:
        left.history()
    assert str(left.archive.with_name("archive")) in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("spoil", [gone, file_cut, entry_lost])
def test_who_does_not_need_it_is_not_kept_from_the_rest(left: Story, spoil: Callable[[Story], str]) -> None:
    spoil(left)
    for request in ({"since": "2026-01-05"}, {"since": "24h"}, {"since": "10"}, {"correlation_id": "c-m6"}):
        assert ("m6", False) in left.found(**request)
    with pytest.raises(UnreadableArchive):
        left.history(correlation_id="c-m2")
    with pytest.raises(UnreadableArchive):
        left.history(since="1")


def test_a_file_outside_of_the_span_is_not_missed(left: Story) -> None:
    """Nothing in it is asked for, and no conversation is in need of it."""
    file_lost(left)
    assert left.found(since="2026-01-04T06:00") == [("m4", False), ("m5", False), ("m6", False)]


def test_what_was_discarded_is_said_where_the_span_reaches_it(story: Story) -> None:
    for day in range(1, 7):
        story.handled(f"m{day}", day)
    story.day = 6
    story.upkeep.retain(2, None)
    assert story.history().discarded_to == "2026-01-03"
    assert story.history(since="2026-01-05").discarded_to is None
    assert story.found() == [("m4", False), ("m5", False), ("m6", False)]
