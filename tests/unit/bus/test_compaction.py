"""Compaction: what is merged, that the rows are the same rows, and that an exchange of files never undoes another's."""

from __future__ import annotations

import itertools
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.errors import ForeignLog
from bus.log import compaction, contents
from bus.log import rows as codec
from bus.log.entry import Added
from bus.log.store import LocalStore
from bus.log.table import DeltaLog
from tests.unit.bus.logs import append, checkpoint_and_clean, ids, make_log, message, open_log

TODAY = "2026-02-02"
#: The machine may be slow; that is not what is looked for.
unhurried = settings(deadline=None, max_examples=50)


def file(place: int, rows: int, size: int | None = None, date: str = TODAY) -> Added:
    return Added(f"date={date}/f{place}", {"date": date}, size or rows * 400, rows, {}, 0, (place, place))


def merged(group: list[Added]) -> Added:
    rows, size = sum(one.rows for one in group), sum(one.size for one in group)
    first, last = group[0], group[-1]
    assert first.span
    assert last.span
    return Added(f"{first.path}+", first.partition, size, rows, {}, 0, (first.span[0], last.span[1]))


def settle(files: dict[str, Added], target: int = compaction.TARGET) -> list[list[Added]]:
    """Do what is planned."""
    groups = compaction.plan(files.values(), TODAY, target=target)
    for group in groups:
        for one in group:
            del files[one.path]
        new = merged(group)
        files[new.path] = new
    return groups


# --- what is merged ----------------------------------------------------------------------------------------------------


@unhurried
@given(st.lists(st.integers(1, 300), min_size=1, max_size=60))
def test_a_plan_takes_neighbours_each_once_and_leaves_nothing_to_do(commits: list[int]) -> None:
    files = {one.path: one for one in (file(place, rows) for place, rows in enumerate(commits))}
    before = list(files.values())
    groups = settle(files)
    taken = [one.path for group in groups for one in group]
    assert len(taken) == len(set(taken))
    assert all(len(group) > 1 for group in groups)
    for group in groups:
        start = before.index(group[0])
        assert group == before[start : start + len(group)]
    assert sum(one.rows for one in files.values()) == sum(commits)
    assert settle(files) == []


@unhurried
@given(st.lists(st.integers(1, 40), min_size=1, max_size=120))
def test_files_stay_few_and_rows_are_written_few_times(passes: list[int]) -> None:
    """One-row commits, and a pass of upkeep after so many of each."""
    files: dict[str, Added] = {}
    numbers = itertools.count()
    written = 0
    for commits in passes:
        for place in itertools.islice(numbers, commits):
            files[f"date={TODAY}/f{place}"] = file(place, 1)
        written += sum(one.rows for group in settle(files) for one in group)
    total = sum(passes)
    assert len(files) <= 4 * 15 + 15
    assert written <= 4 * total


def test_days_that_are_over_become_one_file_and_today_waits_for_more() -> None:
    files = [file(n, 1, date="2026-02-01") for n in range(3)] + [file(n, 1) for n in range(3, 6)]
    (group,) = compaction.plan(files, TODAY)
    assert {one.partition["date"] for one in group} == {"2026-02-01"}
    assert len(group) == 3


def test_partitions_do_not_mix() -> None:
    files = [file(n, 1, date=("2026-02-01", "2026-01-31")[n % 2]) for n in range(64)]
    groups = compaction.plan(files, TODAY)
    assert sorted(len(group) for group in groups) == [32, 32]
    assert all(len({one.partition["date"] for one in group}) == 1 for group in groups)


@unhurried
@given(st.lists(st.integers(1, 50), min_size=16, max_size=80))
def test_no_file_grows_above_the_target(sizes: list[int]) -> None:
    files = [file(n, 1, size) for n, size in enumerate(sizes)]
    for group in compaction.plan(files, TODAY, target=100):
        assert sum(one.size for one in group) <= 100


def test_a_large_file_is_left_alone_for_ever() -> None:
    files = [file(0, 10**6, size=200), *(file(n, 1, size=1) for n in range(1, 40))]
    (group,) = compaction.plan(files, TODAY, target=100)
    assert files[0] not in group


# --- the rows ----------------------------------------------------------------------------------------------------------


def compact(log: DeltaLog) -> Added:
    there = contents.load(log)
    sources = list(there.files.values())
    made = compaction.merge(log, sources)
    compaction.check_rows(sources, [made])
    compaction.commit(log, there, sources, [made])
    return made


def everything(log: DeltaLog) -> pa.Table:
    by = [("log_version", "ascending"), ("seq", "ascending")]
    return log.scan()[0].sort_by(by)


def test_rows_before_are_rows_after(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    for n in range(20):
        append(
            log,
            *(message(f"m{n}-{i}", content=f'{{"text":"ü \\n {n}"}}', not_before=n or None) for i in range(n % 4 + 1)),
        )
    before = everything(log)
    made = compact(log)
    assert everything(log).equals(before)
    rows = pq.read_table(tmp_path / made.file, partitioning=None)
    places = list(zip(rows.column("log_version").to_pylist(), rows.column("seq").to_pylist(), strict=True))
    assert places == sorted(places)
    assert (made.span, made.rows) == ((1, 20), before.num_rows)
    assert made.stats["minValues"]["log_version"] == 1
    assert made.stats["maxValues"]["log_version"] == 20


def test_filters_skip_by_the_new_files_least_and_greatest(tmp_path: Path) -> None:
    """What deltalake leaves out by these numbers must not hold what was asked for."""
    import pyarrow.compute as pc

    log = make_log(tmp_path)
    for n in range(20):
        append(log, message(f"m{n:02}", correlation_id=f"c{n % 5}", timestamp=1_767_225_600_123_456 + n))
    compact(log)
    for n in (0, 7, 19):
        for found in (pc.field("message_id") == f"m{n:02}", pc.field("log_version") == n + 1):
            assert log.scan(filters=found)[0].column("message_id").to_pylist() == [f"m{n:02}"]
    assert log.scan(filters=pc.field("correlation_id") == "c3")[0].num_rows == 4


def test_whoever_follows_sees_each_row_where_it_was_first_written(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    for n in range(17):
        append(log, message(f"m{n}"))
    compact(log)
    append(log, message("after"))
    seen = [name for _, rows in log.follow(-1) for name in rows.column("message_id").to_pylist()]
    assert seen == [*(f"m{n}" for n in range(17)), "after"]


def test_a_foreign_writers_rows_get_the_place_that_their_entry_gave_them(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    append(log, message("first"))
    rows = codec.to_arrow([message("x"), message("y")], 99)
    nowhere = rows.set_column(rows.schema.get_field_index("seq"), "seq", pa.nulls(2, pa.int32()))
    log.append(nowhere)
    compact(log)
    found = everything(log).select(["message_id", "log_version", "seq"]).to_pylist()
    assert [tuple(row.values()) for row in found] == [("first", 1, 0), ("x", 2, 0), ("y", 2, 1)]


def test_files_that_overlap_are_sorted_as_a_whole(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    for version in (1, 2, 3):
        append(log, message(f"m{version}"))
    there = contents.load(log)
    ones = list(there.files.values())
    crossed = compaction.merge(log, [ones[0], ones[2]])
    compaction.commit(log, there, [ones[0], ones[2]], [crossed])
    made = compact(log)
    rows = pq.read_table(tmp_path / made.file, partitioning=None)
    assert rows.column("message_id").to_pylist() == ["m1", "m2", "m3"]


# --- the exchange ------------------------------------------------------------------------------------------------------


def test_appends_in_between_do_not_matter(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    for n in range(5):
        append(log, message(f"m{n}"))
    there = contents.load(log)
    sources = list(there.files.values())
    made = compaction.merge(log, sources)
    append(log, message("late"))
    append(log, message("later"))
    assert compaction.commit(log, there, sources, [made]) == 8
    assert ids(log) == [*(f"m{n}" for n in range(5)), "late", "later"]


def test_of_two_compactions_of_one_file_the_first_counts(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    for n in range(5):
        append(log, message(f"m{n}"))
    there = contents.load(log)
    sources = list(there.files.values())
    first, second = compaction.merge(log, sources), compaction.merge(log, sources[2:])
    compaction.commit(log, contents.load(log), sources, [first])
    append(log, message("between"))
    with pytest.raises(compaction.Overtaken):
        compaction.commit(log, there, sources[2:], [second])
    assert ids(log) == [*(f"m{n}" for n in range(5)), "between"]


def test_a_compaction_that_slept_does_not_believe_it_won_the_past(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    for n in range(5):
        append(log, message(f"m{n}"))
    there = contents.load(log)
    sources = list(there.files.values())
    made = compaction.merge(log, sources)
    for n in range(5, 9):
        append(log, message(f"m{n}"))
    checkpoint_and_clean(log)
    with pytest.raises(compaction.Overtaken):
        compaction.commit(log, there, sources, [made])
    assert ids(log) == [f"m{n}" for n in range(9)]


def test_a_file_that_lost_rows_is_not_exchanged() -> None:
    with pytest.raises(ForeignLog, match="3 rows by the log, 2 in the data files"):
        compaction.check_rows([file(1, 1), file(2, 2)], [file(1, 2)])


# --- a writer whose file was compacted before it looked ----------------------------------------------------------------


@pytest.mark.parametrize("vacuumed", [False, True])
def test_an_append_that_was_compacted_and_checkpointed_at_once_has_won(tmp_path: Path, vacuumed: bool) -> None:
    """Between its entry and its look at the checkpoint all of upkeep passes by."""
    make_log(tmp_path)
    log = open_log(tmp_path)

    class Slow(LocalStore):
        def put_if_absent(self, path: str, data: bytes) -> bool:
            won = super().put_if_absent(path, data)
            made = [one.file for one in contents.load(log).files.values()]
            compact(log)
            contents.load(log).write_checkpoint(log)
            if vacuumed:
                for name in made:
                    log.store.delete(name)
            return won

    slow = open_log(tmp_path, Slow(tmp_path))
    assert slow.put(1, codec.to_arrow([message("once")], 1)).won
    assert ids(log) == ["once"]
