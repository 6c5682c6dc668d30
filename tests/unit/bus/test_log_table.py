"""The Delta log itself: put if absent, by threads and processes; what happens when the disk, the network or time is unkind."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import threading
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bus.errors import ForeignLog, LogMissing
from bus.log import rows as codec
from bus.log.store import LocalStore
from bus.log.table import DeltaLog
from schemas.tables import AGENT_EVENTS, AGENT_MESSAGES
from tests.unit.bus.logs import (
    FullDisk,
    LostResponse,
    append,
    checkpoint_and_clean,
    files,
    ids,
    make_log,
    message,
    open_log,
    patched_fsync,
)

COMMITS = 12


def entries(log: DeltaLog) -> list[int]:
    return sorted(int(name[:20]) for name in os.listdir(log.path / "_delta_log") if name.endswith(".json"))


def write_many(folder: str, writer: str) -> None:
    log = open_log(Path(folder))
    for n in range(COMMITS):
        append(log, message(f"{writer}-{n}"))


def check_written(log: DeltaLog, writers: list[str]) -> None:
    assert Counter(ids(log)) == dict.fromkeys([f"{w}-{n}" for w in writers for n in range(COMMITS)], 1)
    assert entries(log) == list(range(len(writers) * COMMITS + 1))
    for writer in writers:
        mine = [name for name in ids(log) if name.startswith(f"{writer}-")]
        assert mine == [f"{writer}-{n}" for n in range(COMMITS)]
    assert not any(name.startswith("_tailrace/tmp/") for name in files(log.path))


def test_many_threads_commit_each_row_once_in_versions_without_gaps(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    writers = [f"t{n}" for n in range(8)]
    threads = [threading.Thread(target=write_many, args=(str(tmp_path), w)) for w in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_written(log, writers)


def test_many_processes_commit_each_row_once_in_versions_without_gaps(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    writers = [f"p{n}" for n in range(3)]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write_many, args=(str(tmp_path), w)) for w in writers]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(writers)
    check_written(log, writers)


def test_only_one_of_two_gets_a_version(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    first, second = (codec.to_arrow([message(name)], 1) for name in ("first", "second"))
    assert log.put(1, first).won
    assert not log.put(1, second).won
    assert ids(log) == ["first"]


def test_creating_twice_keeps_the_first_table(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    append(log, message("kept"))
    table_id = log.check()
    again = make_log(tmp_path)
    assert again.check() == table_id
    assert ids(again) == ["kept"]


# --- answers that get lost, disks that are full -----------------------------------------------------------------------


def test_a_lost_answer_is_settled_by_reading(tmp_path: Path) -> None:
    make_log(tmp_path)
    log = open_log(tmp_path, LostResponse(tmp_path))
    assert log.put(1, codec.to_arrow([message("once")], 1)).won
    assert ids(log) == ["once"]
    assert entries(log) == [0, 1]


def test_an_answer_lost_by_whoever_came_second_is_no_success(tmp_path: Path) -> None:
    make_log(tmp_path)
    append(open_log(tmp_path), message("first"))
    log = open_log(tmp_path, LostResponse(tmp_path))
    with pytest.raises(OSError, match="the answer was lost"):
        log.put(1, codec.to_arrow([message("second")], 1))
    assert ids(log) == ["first"]


@pytest.mark.parametrize("room", [0, 10, 9_000, 13_000])
def test_a_full_disk_raises_and_leaves_nothing_half_written(tmp_path: Path, room: int) -> None:
    good = make_log(tmp_path)
    append(good, message("before"))
    log = open_log(tmp_path, FullDisk(tmp_path, room))
    with pytest.raises(OSError, match="No space left"):  # noqa: PT012  # it may fit a few times first
        for n in range(100):
            append(log, message(f"m{n}"))
    kept = ids(good)
    assert kept[0] == "before"
    for name in files(tmp_path):
        if name.endswith(".parquet"):
            pq.read_table(tmp_path / name, partitioning=None)
        elif name.endswith(".json"):
            for line in (tmp_path / name).read_text().splitlines():
                json.loads(line)
    assert not any(name.startswith("_tailrace/tmp/") for name in files(tmp_path))
    append(good, message("after"))
    assert ids(good) == [*kept, "after"]


def test_a_file_whose_writing_fails_is_taken_away(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, "disk")

    def no_room(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with patched_fsync(no_room):
        for put in (store.put, store.put_if_absent):
            with pytest.raises(OSError, match="No space left"):
                put("file", b"content")
    assert files(tmp_path) == set()


def test_a_data_file_that_cannot_be_synced_is_named_by_no_entry(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, "disk")
    store.put("folder/before", b"content")
    assert store.put_if_absent("folder/0.json", b"entry")
    real = os.fsync

    def only_the_data(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("data"):
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    with patched_fsync(only_the_data):
        store.put("folder/data", b"content")
        with pytest.raises(OSError, match="Input/output"):
            store.put_if_absent("folder/1.json", b"entry")
    assert files(tmp_path) == {"folder/before", "folder/0.json"}
    assert store.put_if_absent("folder/1.json", b"entry")


# --- power ------------------------------------------------------------------------------------------------------------


def synced(root: Path, work: object) -> list[str]:
    """Paths that were fsynced while `work` ran, relative to the root."""
    found: list[str] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        found.append(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), root))
        real(descriptor)

    with patched_fsync(note):
        assert callable(work)
        work()
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux to see which file a descriptor is")
def test_disk_means_every_file_and_folder_before_it_is_acknowledged(tmp_path: Path) -> None:
    root = tmp_path / "home" / "tables" / "agent_messages"
    log = DeltaLog(root, AGENT_MESSAGES, "disk")
    made = synced(root, log.create)
    # The table's folder is an entry of its parent, and that of its own.
    assert {"_delta_log", ".", "..", os.path.join("..", ".."), os.path.join("..", "..", "..")} <= set(made)
    order = synced(root, lambda: append(log, message()))
    data = next(place for place, name in enumerate(order) if name.endswith(".parquet"))
    partition = next(place for place, name in enumerate(order) if name.startswith("date=") and not name.endswith("t"))
    scratch = next(place for place, name in enumerate(order) if "tmp" in name and len(os.path.basename(name)) == 32)
    assert data < partition
    assert max(partition, scratch) < order.index("_delta_log")  # both before the link, in whatever order


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux to see which file a descriptor is")
def test_os_durability_syncs_nothing(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    assert synced(tmp_path, lambda: append(log, message())) == []


# --- heads, gaps, the cleaned past ------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [-1, 0, 1, 7, 12, 13, 99])
def test_the_head_is_found_from_anywhere(tmp_path: Path, known: int) -> None:
    log = make_log(tmp_path)
    for _ in range(13):
        append(log, message())
    assert log.head(known) == 13


def test_the_head_is_found_after_a_clean_up(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    for _ in range(9):
        append(log, message())
    assert checkpoint_and_clean(log) == 9
    assert [log.head(known) for known in (-1, 0, 3, 9)] == [9] * 4
    append(log, message())
    assert [log.head(known) for known in (-1, 0, 3, 9, 10)] == [10] * 5
    os.unlink(log.path / "_delta_log" / f"{9:020d}.json")
    assert log.head() == 10
    assert log.check()


def test_whoever_slept_does_not_win_the_cleaned_past(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    for n in range(9):
        append(log, message(f"m{n}"))
    checkpoint_and_clean(log)
    assert not log.put(3, codec.to_arrow([message("late")], 3)).won
    assert not log.put(4, AGENT_MESSAGES.file_schema.empty_table(), txns={"app": 1}).won
    assert log.head(2) == log.head(3) == 9
    assert log.append(codec.to_arrow([message("late")], 10)) == 10
    assert "late" in ids(log)
    assert len(ids(log)) == 10


def test_no_table_says_what_to_do(tmp_path: Path) -> None:
    log = open_log(tmp_path / "nowhere")
    for ask in (log.check, log.head):
        with pytest.raises(LogMissing, match="tailrace init"):
            ask()


# --- logs that are not ours -------------------------------------------------------------------------------------------


def put_entry(log: DeltaLog, version: int, text: bytes) -> None:
    (log.path / "_delta_log" / f"{version:020d}.json").write_bytes(text)


GARBAGE = {
    "garbage": b"\x00\xff garbage",
    "truncated": b'{"commitInfo":{"timestamp":1}}\n{"add":{"path":"x',
    "empty": b"",
    "blank": b"\n\n",
    "a number": b"17\n",
    "a list": b"[]\n",
    "null": b"null\n",
    "action without body": b'{"add":null}\n',
    "no path": b'{"add":{"size":1}}\n',
}


@pytest.mark.parametrize("name", GARBAGE)
def test_an_entry_that_is_none_is_named(tmp_path: Path, name: str) -> None:
    log = make_log(tmp_path)
    put_entry(log, 1, GARBAGE[name])
    with pytest.raises(ForeignLog, match="log entry 1 "):
        log.entry(1)


FOREIGN_PROTOCOLS = {
    "reader 3": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": [], "writerFeatures": ["tailraceLog"]},
    "legacy": {"minReaderVersion": 1, "minWriterVersion": 2},
    "more features": {
        "minReaderVersion": 1,
        "minWriterVersion": 7,
        "writerFeatures": ["appendOnly", "invariants", "tailraceLog", "columnMapping"],
    },
    "ours taken away": {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["appendOnly"]},
}


@pytest.mark.parametrize("name", FOREIGN_PROTOCOLS)
def test_a_changed_protocol_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    log = make_log(tmp_path)
    append(log, message("before"))
    put_entry(log, 2, json.dumps({"protocol": FOREIGN_PROTOCOLS[name]}).encode())
    append(log, message("later"))
    before = files(tmp_path)
    for refuses in (lambda: log.entry(2), log.check, log.create):
        with pytest.raises(ForeignLog, match="not a log that Tailrace writes"):
            refuses()
    assert files(tmp_path) == before


def test_a_table_of_another_schema_is_refused(tmp_path: Path) -> None:
    DeltaLog(tmp_path, AGENT_EVENTS).create()
    before = files(tmp_path)
    with pytest.raises(ForeignLog, match="not those of agent_messages"):
        make_log(tmp_path)
    assert files(tmp_path) == before


def test_a_table_of_another_writer_is_refused(tmp_path: Path) -> None:
    from deltalake import write_deltalake

    write_deltalake(str(tmp_path), pa.table({"x": [1]}))
    before = files(tmp_path)
    with pytest.raises(ForeignLog):
        make_log(tmp_path)
    assert files(tmp_path) == before


def test_a_lost_or_spoilt_data_file_is_named(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    append(log, message())
    entry = log.entry(1)
    assert entry is not None
    (tmp_path / entry.added[0].file).write_bytes(b"spoilt")
    with pytest.raises(ForeignLog, match=r"part-.*\.parquet"):
        log.read(entry)
    (tmp_path / entry.added[0].file).unlink()
    with pytest.raises(ForeignLog, match=r"part-.*\.parquet"):
        log.read(entry)


@pytest.mark.parametrize("count", [3, codec.MANY])
@pytest.mark.parametrize("stored", ["plain", "shared", "bytes", "null", "not there"])
def test_a_signature_reads_the_same_however_a_file_stores_it(tmp_path: Path, stored: str, count: int) -> None:
    """A foreign writer's file may hold it in another way, or not have the column at all."""
    log = make_log(tmp_path)
    signed = ["of two rows" if place < 2 else None if place == 2 else f"of row {place}" for place in range(count)]
    messages = [message(f"m{place}").with_fields(signature=text) for place, text in enumerate(signed)]
    rows = codec.to_arrow(messages, 1)
    place = rows.schema.get_field_index("signature")
    column = rows.column(place).combine_chunks()
    if stored == "not there":
        rows, signed = rows.remove_column(place), [None] * count
    else:
        of = {
            "shared": column.dictionary_encode(),
            "bytes": column.cast(pa.binary()),
            "null": pa.nulls(count, pa.string()),
        }
        rows = rows.set_column(place, "signature", of.get(stored, column))
        signed = [None] * count if stored == "null" else signed
    version = log.append(rows)
    entry = log.entry(version)
    assert entry is not None
    assert not entry.inline
    found = codec.of_entry(log, entry)
    assert [row.signature for row in found] == signed
    assert [row.message_id for row in found] == [f"m{place}" for place in range(count)]
    assert log.read(entry).schema == log.schema.arrow
