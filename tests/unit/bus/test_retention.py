"""Retention: what leaves can be read in the archive before it is gone, and conversations that go on stay whole."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus.errors import LogError
from bus.fold import State, valid_rows
from bus.log import compaction, retention
from bus.log import rows as codec
from bus.log.retention import Retained
from bus.log.snapshot import Snapshots
from bus.log.table import DeltaLog
from schemas.envelope import Message
from tests.unit.bus.logs import DatedLog, append, files, ids, message


class Days(DatedLog):
    """Requests that are handled on other days than they came."""

    def handled(self, name: str, on: int, receipt_on: int) -> None:
        """A request of its own conversation, and its receipt with an answer on a later day."""
        self.day = on
        append(self.log, message(name, correlation_id=f"c-{name}"))
        self.day = receipt_on
        self.answer(name)

    def answer(self, name: str) -> None:
        told = {"from_agent": "A", "correlation_id": f"c-{name}", "causation_id": name, "handling_id": f"h-{name}"}
        append(
            self.log,
            message(f"r-{name}", message_type="receipt", kind="Receipt", to_agent="*", **told),
            message(f"a-{name}", message_type="response", kind="Pong", to_agent="user:eli", **told),
        )

    def retain(self, days: int = 2) -> Retained:
        return self.upkeep.retain(days, self.archive)

    def archived(self) -> list[str]:
        rows = DeltaTable(str(self.archive / "agent_messages")).to_pyarrow_table().to_pylist()
        return [row["message_id"] for row in sorted(rows, key=lambda row: (row["log_version"], row["seq"]))]


@pytest.fixture
def days(tmp_path: Path) -> Days:
    return Days(tmp_path)


def valid(log: DeltaLog) -> list[str]:
    return [m.message_id for m in valid_rows(codec.from_arrow(log.scan()[0]))]


def test_old_days_are_in_the_archive_and_no_longer_in_the_table(days: Days) -> None:
    days.handled("m1", on=1, receipt_on=1)
    days.handled("m2", on=2, receipt_on=2)
    days.handled("m5", on=5, receipt_on=5)
    done = days.retain()
    assert (done.days, done.rows, done.stayed) == (["2026-01-01", "2026-01-02"], 6, 0)
    assert days.archived() == ["m1", "r-m1", "a-m1", "m2", "r-m2", "a-m2"]
    assert ids(days.log) == ["m5", "r-m5", "a-m5"]
    assert days.retain().days == []


def test_a_conversation_that_goes_on_stays_whole(days: Days) -> None:
    """Else its receipt would be one of a message nobody knows, and its answers not valid any more."""
    days.handled("long", on=1, receipt_on=5)
    days.handled("short", on=1, receipt_on=1)
    before = valid(days.log)
    days.day = 6
    done = days.retain()
    assert (done.rows, done.stayed) == (3, 1)
    assert ids(days.log) == ["long", "r-long", "a-long"]
    assert valid(days.log) == [name for name in before if "long" in name]
    days.day = 9
    days.retain()
    assert ids(days.log) == []
    assert days.archived() == ["long", "r-long", "a-long", "short", "r-short", "a-short"]


def test_what_somebody_waits_for_stays(days: Days) -> None:
    append(days.log, message("open", correlation_id="c-open"))
    days.handled("m1", on=1, receipt_on=1)
    days.day = 30
    days.retain()
    assert ids(days.log) == ["open"]
    days.answer("open")
    days.day = 60
    days.retain()
    assert ids(days.log) == []


def test_what_an_agent_subscribes_to_stays(days: Days) -> None:
    def instance(name: str, step: str) -> Message:
        said = {"agent": "A", "instance": name, "host": "h", "engine": "tail", "step": step, "subscribes": ["Rang"]}
        envelope = {"from_agent": "A", "to_agent": "*", "message_type": "event", "kind": "InstanceChanged"}
        content = json.dumps(said, separators=(",", ":"))
        return message(f"{name}-{step}", correlation_id=name, content=content, **envelope)

    for name in ("A-1", "A-2"):
        append(days.log, instance(name, "started"))
        append(days.log, instance(name, "stopped"))
    days.day = 30
    days.retain()
    assert ids(days.log) == ["A-2-started", "A-2-stopped"]
    rebuilt = State()
    rebuilt.load(codec.from_arrow(days.log.scan()[0]))
    assert rebuilt.subscriptions == {"A": frozenset({"Rang"})}
    assert rebuilt.leases == {}


def test_rows_that_no_projection_has_seen_stay(days: Days) -> None:
    days.handled("m1", on=1, receipt_on=1)
    days.handled("m2", on=2, receipt_on=2)
    days.day = 9
    assert days.upkeep.retain(2, days.archive, upto=2).days == ["2026-01-01"]
    assert days.upkeep.retain(2, days.archive, upto=99).days == ["2026-01-02"]


def test_an_archive_that_cannot_be_written_costs_nothing(days: Days) -> None:
    days.handled("m1", on=1, receipt_on=1)
    days.day = 9
    days.archive.write_text("a file where the folder should be")
    with pytest.raises(OSError, match="archive"):
        days.retain()
    assert ids(days.log) == ["m1", "r-m1", "a-m1"]


def test_an_archive_that_lies_costs_nothing(days: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    days.handled("m1", on=1, receipt_on=1)
    days.day = 9
    real = retention.read_archive

    def one_row_less(*place: object) -> object:
        found = real(*place)
        return found and found.slice(1)

    monkeypatch.setattr(retention, "read_archive", one_row_less)
    with pytest.raises(LogError, match="does not hold the rows of 2026-01-01"):
        days.retain()
    assert ids(days.log) == ["m1", "r-m1", "a-m1"]


def test_a_crash_between_archive_and_removal_archives_nothing_twice(
    days: Days, monkeypatch: pytest.MonkeyPatch
) -> None:
    days.handled("m1", on=1, receipt_on=1)
    days.day = 9

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    days.upkeep.run()  # which merges what is left of the day
    with monkeypatch.context() as broken:
        broken.setattr(retention.compaction, "commit", dies)
        with pytest.raises(KeyboardInterrupt):
            days.retain()
    assert days.archived() == ids(days.log) == ["m1", "r-m1", "a-m1"]
    days.retain()
    assert days.archived() == ["m1", "r-m1", "a-m1"]
    assert ids(days.log) == []


def test_who_asks_for_everything_gets_the_archive_too(days: Days) -> None:
    days.handled("m1", on=1, receipt_on=1)
    days.handled("m5", on=5, receipt_on=5)
    before, _ = days.log.scan()
    days.day = 6
    days.retain()
    by = [("log_version", "ascending"), ("seq", "ascending")]
    assert retention.everything(days.log).sort_by(by).equals(before.sort_by(by))
    (days.archive / "agent_messages").rename(days.archive / "elsewhere")
    with pytest.raises(LogError, match="it is not there"):
        retention.everything(days.log)


def test_discarding_says_so(days: Days) -> None:
    days.handled("m1", on=1, receipt_on=1)
    days.day = 9
    done = days.upkeep.retain(2, None)
    assert (done.rows, done.archive) == (3, None)
    assert retention.archives(days.log) == {"": "2026-01-01"}
    assert ids(days.log) == []


def test_followers_and_a_start_after_days_have_left(days: Days) -> None:
    from bus.log.follower import Follower

    follower = Follower(days.log, snapshots=Snapshots(days.log))
    days.handled("m1", on=1, receipt_on=1)
    append(days.log, message("open", correlation_id="c-open"))
    follower.advance()
    days.day = 9
    days.retain()
    append(days.log, message("new", correlation_id="c-new"))
    follower.advance()
    days.upkeep.run(force=True)
    started = Follower(days.log, snapshots=Snapshots(days.log))
    for one in (follower, started):
        assert [m.message_id for m in one.state.open_for("A")] == ["open", "new"]


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Files of many row groups, read a few rows at a time; how many rows went to the archive each time."""
    monkeypatch.setattr(compaction, "GROUP", 4)
    monkeypatch.setattr(retention, "PART_ROWS", 4)
    sizes: list[int] = []
    real = retention._archive

    def archive(place: object, table: DeltaLog, rows: pa.Table, day: str) -> None:
        sizes.append(rows.num_rows)
        real(place, table, rows, day)

    monkeypatch.setattr(retention, "_archive", archive)
    return sizes


def test_a_day_need_not_be_in_memory(days: Days, in_parts: list[int]) -> None:
    for n in range(8):
        days.handled(f"m{n}", on=1, receipt_on=1)
    days.handled("long", on=1, receipt_on=6)
    days.upkeep.run(force=True)
    done = days.retain()
    assert (done.days, done.rows, done.stayed) == (["2026-01-01"], 24, 1)
    assert max(in_parts) <= 8 < 24
    assert days.archived() == [f"{kind}m{n}" for n in range(8) for kind in ("", "r-", "a-")]
    assert ids(days.log) == ["long", "r-long", "a-long"]
    # One commit: nobody ever sees half of a day.
    entries = sorted((days.log.path / "_delta_log").glob("*.json"))
    assert sum('"operation":"DELETE"' in entry.read_text() for entry in entries) == 1


def test_where_everything_stays_nothing_is_written(days: Days, in_parts: list[int]) -> None:
    for n in range(4):
        append(days.log, message(f"m{n}", correlation_id=f"c-m{n}"))
    days.day = 9
    days.upkeep.run(force=True)
    before = files(days.log.path)
    assert days.retain().days == []
    assert in_parts == []
    assert {one for one in files(days.log.path) - before if one.startswith("date=")} == set()


def test_a_crash_in_the_middle_of_a_day(days: Days, in_parts: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(8):
        days.handled(f"m{n}", on=1, receipt_on=1)
    days.day = 9
    real = retention._archive

    def dies(place: object, table: DeltaLog, rows: pa.Table, day: str) -> None:
        if len(in_parts) == 3:
            raise KeyboardInterrupt
        real(place, table, rows, day)

    with monkeypatch.context() as broken:
        broken.setattr(retention, "_archive", dies)
        with pytest.raises(KeyboardInterrupt):
            days.retain()
    assert len(ids(days.log)) == 24
    assert 0 < len(days.archived()) < 24
    days.retain()
    assert days.archived() == [f"{kind}m{n}" for n in range(8) for kind in ("", "r-", "a-")]
    assert ids(days.log) == []


def test_what_the_archive_has_wrong_is_put_right(days: Days, in_parts: list[int]) -> None:
    """As after a crash of somebody who could not finish: what the table says of its own rows counts."""
    for n in range(3):
        days.handled(f"m{n}", on=1, receipt_on=1)
    rows, _ = days.log.scan()
    wrong = rows.set_column(rows.schema.get_field_index("content"), "content", pa.array(["wrong"] * rows.num_rows))
    place = days.archive / "agent_messages"
    place.mkdir(parents=True)
    other = pa.Table.from_pylist([rows.to_pylist()[0] | {"message_id": "earlier", "seq": 77}], schema=rows.schema)
    write_deltalake(str(place), pa.concat_tables([wrong, other]), partition_by=["date"])
    days.day = 9
    days.retain()
    assert sorted(days.archived()) == sorted(
        ["earlier", *(f"{kind}m{n}" for n in range(3) for kind in ("", "r-", "a-"))]
    )
    assert "wrong" not in DeltaTable(str(place)).to_pyarrow_table(columns=["content"]).column(0).to_pylist()
    assert ids(days.log) == []


@pytest.mark.parametrize("known", [False, True])
def test_an_archive_may_be_older_than_a_column(days: Days, known: bool) -> None:
    days.handled("m1", on=1, receipt_on=1)
    rows, _ = days.log.scan()
    place = days.archive / "agent_messages"
    place.mkdir(parents=True)
    (first, *_) = rows.to_pylist()
    there = [first] if known else [first | {"message_id": "other", "log_version": 77, "traceparent": None}]
    old = pa.Table.from_pylist(there, schema=rows.schema).drop_columns(["traceparent"])
    write_deltalake(str(place), old, partition_by=["date"])
    days.day = 9
    days.retain()
    assert days.archived() == ["m1", "r-m1", "a-m1", *([] if known else ["other"])]
    assert ids(days.log) == []
    found = retention.everything(days.log)
    assert found.schema.names == rows.schema.names
    assert found.num_rows == (3 if known else 4)


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8),
    st.lists(st.integers(0, 3), max_size=3),
)
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_in_one_of_both_places_and_conversations_whole(
    tmp_path_factory: pytest.TempPathFactory,
    in_parts: list[int],
    sent: list[tuple[int, int, int]],
    passes: list[int],
) -> None:
    days = Days(tmp_path_factory.mktemp("days"))
    for n, (day, conversation, later) in enumerate(sorted(sent)):
        days.day = day
        append(days.log, message(f"m{n}", correlation_id=f"c{conversation}"))
        days.day = day + later
        told = {
            "from_agent": "A",
            "correlation_id": f"c{conversation}",
            "causation_id": f"m{n}",
            "handling_id": f"r{n}",
        }
        append(days.log, message(f"r{n}", message_type="receipt", kind="Receipt", to_agent="*", **told))
    everything = {row["message_id"]: row["correlation_id"] for row in days.log.scan()[0].to_pylist()}
    days.day = max(day for day, _, _ in sent) + 3
    for later in [*passes, 0]:
        days.day += later
        days.retain()
        here = set(ids(days.log))
        there = set(days.archived()) if (days.archive / "agent_messages").exists() else set()
        assert here | there == everything.keys()
        assert not here & there
        assert not {everything[name] for name in here} & {everything[name] for name in there}
