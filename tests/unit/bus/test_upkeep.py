"""Upkeep of one table: what it leaves, what it waits for, and that nobody who reads meanwhile misses or repeats a row."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bus.errors import LogMissing
from bus.fold import State
from bus.log import cleanup, contents
from bus.log import entry as entries
from bus.log import rows as codec
from bus.log.bus import LogBus
from bus.log.cleanup import ORPHAN_AGE_S
from bus.log.consumers import Consumers
from bus.log.follower import Follower
from bus.log.health import health
from bus.log.snapshot import Snapshots
from bus.log.store import LocalStore
from bus.log.table import DeltaLog
from bus.log.upkeep import Folding, Limits, Upkeep
from schemas.envelope import Message
from schemas.tables import AGENT_EVENTS, AGENT_MESSAGES
from tests.unit.bus.logs import append, files, ids, message

KEEP_S = 100.0


@dataclass
class Time:
    """A clock that somebody moves."""

    now: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Place:
    """A table, the time it lives in, and its upkeep."""

    folder: Path
    time: Time = field(default_factory=Time)

    def __post_init__(self) -> None:
        self.log = DeltaLog(self.folder, AGENT_MESSAGES, now=self.time)
        self.log.create()
        self.consumers = Consumers(self.log)
        self.upkeep = self.another_upkeep()

    def another_upkeep(self, **limits: int) -> Upkeep:
        chosen = Limits(keep_s=KEEP_S, **({"checkpoint_every": 20} | limits))
        return Upkeep(self.log, Consumers(self.log), chosen, Folding(Snapshots(self.log), lambda _: True))

    def send(self, count: int, name: str = "m") -> None:
        for n in range(count):
            append(self.log, message(f"{name}{n:04}"))

    def named(self, end: str) -> list[str]:
        return sorted(name for name in os.listdir(self.folder / "_delta_log") if name.endswith(end))

    @property
    def data(self) -> set[str]:
        return {name for name in files(self.folder) if name.startswith("date=")}

    def start(self) -> Follower:
        """As a host does."""
        return Follower(self.log, snapshots=Snapshots(self.log))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "agent_messages")


def expected(count: int, name: str = "m") -> list[str]:
    return [f"{name}{n:04}" for n in range(count)]


def test_many_small_commits_become_few_files_and_a_short_log(place: Place) -> None:
    for part in range(5):
        place.send(25, f"p{part}-")
        place.upkeep.run()
    found = health(place.log)
    assert found.files < 16
    assert found.entries < 60
    assert len(place.named(".checkpoint.parquet")) == 2
    assert len(Snapshots(place.log).versions()) == 2
    assert sorted(ids(place.log)) == sorted(name for part in range(5) for name in expected(25, f"p{part}-"))
    assert (found.rows, found.troubles) == (125, [])


def test_a_pass_over_a_quiet_table_changes_nothing(place: Place) -> None:
    place.send(3)
    place.upkeep.run(force=True)
    before = files(place.folder)
    done = place.upkeep.run(force=True)
    assert not done.changed
    assert files(place.folder) == before


def test_the_state_beside_a_checkpoint_is_the_state_of_the_log(place: Place) -> None:
    place.send(30)
    bus = LogBus(place.log)
    receipt = message("r1", message_type="receipt", kind="Handled", from_agent="A", to_agent="*", causation_id="m0003")
    bus.submit([receipt]).result(10)
    bus.close()
    done = place.upkeep.run(force=True)
    written = Snapshots(place.log).newest()
    assert written is not None
    assert written.version == done.state == done.checkpoint
    whole = State()
    for entry, rows in place.log.follow(-1):
        whole.absorb(codec.from_arrow(rows, entry.version))
    assert written.open == whole.open
    assert ("m0003", "A") not in written.open


def test_who_starts_after_a_clean_up_knows_everything(place: Place) -> None:
    for part in range(3):
        place.send(40, f"p{part}-")
        place.upkeep.run()
    place.send(5, "late-")
    started = place.start()
    assert not place.log.exists(1)
    assert [m.message_id for m in started.state.open_for("A")] == [
        *(name for part in range(3) for name in expected(40, f"p{part}-")),
        *expected(5, "late-"),
    ]


def test_upkeep_that_starts_anew_goes_on_where_the_other_ended(place: Place) -> None:
    for part in range(4):
        place.send(30, f"p{part}-")
        place.another_upkeep().run(force=True)
    assert len(ids(place.log)) == 120
    assert health(place.log).files < 20
    assert len(place.start().state.open_for("A")) == 120


@pytest.mark.parametrize("lost", ["state", "state and entries"])
def test_a_lost_state_is_made_again_of_all_rows(place: Place, lost: str) -> None:
    place.send(60)
    place.upkeep.run()
    for name in files(place.folder):
        if "_tailrace/state-" in name:
            os.unlink(place.folder / name)
    if lost == "state and entries":
        for name in place.named(".json")[:-1]:
            os.unlink(place.folder / "_delta_log" / name)
    place.send(30, "late-")
    place.another_upkeep().run(force=True)
    written = Snapshots(place.log).newest()
    assert written is not None
    assert sorted(m.message_id for m in written.open_for("A")) == sorted(expected(60) + expected(30, "late-"))


# --- what it waits for -------------------------------------------------------------------------------------------------


def test_clean_up_waits_for_the_slowest_consumer(place: Place) -> None:
    place.consumers.note("slow", 5)
    for part in range(3):
        place.send(40, f"p{part}-")
        done = place.upkeep.run()
    assert done.held_by == "slow"
    assert place.named(".json")[0] == f"{5:020d}.json"
    place.time.pass_by(10)
    place.consumers.note("slow", 100)
    place.upkeep.run()
    assert place.named(".json")[0] > f"{50:020d}.json"


def test_clean_up_does_not_wait_for_the_lost(place: Place) -> None:
    place.consumers.note("gone", 5)
    place.time.pass_by(601)
    for part in range(3):
        place.send(40, f"p{part}-")
        done = place.upkeep.run()
    assert done.held_by is None
    found = health(place.log)
    assert [one.name for one in found.lost] == ["gone"]
    assert found.slowest is None
    place.time.pass_by(86_400)
    place.upkeep.run()
    assert place.consumers.all() == []


def test_files_that_left_stay_for_those_who_still_read_them(place: Place) -> None:
    for part in range(3):
        place.send(40, f"p{part}-")
        place.upkeep.run()
    first = {name for name in place.data if "part-" in name}
    assert len(first) == 120
    place.time.pass_by(KEEP_S - 1)
    assert place.upkeep.run().cleaned.files == 0
    place.time.pass_by(2)
    done = place.upkeep.run()
    # What the entries that still stand have removed waits until these entries go.
    assert done.cleaned.files == 40
    assert len(first & place.data) == 80
    assert len(ids(place.log)) == 120


def test_a_pass_deletes_only_so_many_files(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "AT_ONCE", 10)
    for part in range(4):
        place.send(20, f"p{part}-")
        place.upkeep.run()
    place.time.pass_by(KEEP_S + 1)
    assert [place.upkeep.run().cleaned.files for _ in range(3)] == [20, 20, 0]
    assert len(ids(place.log)) == 80


def test_what_a_compaction_of_the_past_says_it_removed_stays(place: Place) -> None:
    """It slept, "won" a version that was cleaned away, and named files that are in the table to this day."""
    for part in range(3):
        place.send(20, f"p{part}-")
        place.upkeep.run(force=True)
    place.send(3, "late-")
    loose = [one for one in contents.load(place.log).files.values() if one.rows == 1]
    assert not place.log.exists(1)
    dead = entries.rearrangement("OPTIMIZE", loose, [], 0, "slept", rows_leave=False)
    place.log.store.put_if_absent(entries.entry_path(1), dead)
    place.upkeep.run(force=True)
    assert not place.log.exists(1)
    place.time.pass_by(KEEP_S + 1)
    assert place.upkeep.run().cleaned.files > 0
    assert ids(place.log)[-3:] == expected(3, "late-")


@pytest.mark.parametrize("spelling", ["outside", "living"])
def test_a_forged_note_deletes_neither_what_lives_nor_what_is_outside(place: Place, spelling: str) -> None:
    place.send(3)
    outside = place.folder.parent / "keyring.json"
    outside.write_text("keys")
    living = sorted(name for name in place.data if name.endswith(".parquet"))[0]
    forged = {"outside": "../keyring.json", "living": living.replace("p", "%70")}[spelling]
    note = {"at_ms": 0, "paths": [forged], "bytes": 1}
    place.log.store.put_if_absent("_tailrace/removed/00000000000000000000.json", json.dumps(note).encode())
    place.upkeep.run()
    assert outside.exists()
    assert ids(place.log) == expected(3)


def test_a_file_of_nobody_is_spared_for_a_day(place: Place) -> None:
    place.send(20)
    place.log.store.put("date=2026-01-01/part-crashed.parquet", b"half")
    place.log.store.put("_tailrace/tmp/abc", b"scratch")
    for name in files(place.folder):
        os.utime(place.folder / name, (place.time.now.timestamp(),) * 2)
    place.upkeep.run()
    place.time.pass_by(ORPHAN_AGE_S - 60)
    assert place.upkeep.run().cleaned.orphans == 0
    place.time.pass_by(4000)
    done = place.upkeep.run()
    assert done.cleaned.orphans == 2
    assert not any("crashed" in name or "tmp/" in name for name in files(place.folder))
    assert ids(place.log) == expected(20)


def test_a_writer_that_slept_for_days_between_its_two_files_loses_nothing(place: Place) -> None:
    """Its data file is taken for a dead writer's; when it wakes and wins, the file has to be there."""
    place.send(20)
    place.upkeep.run(force=True)

    class Asleep(LocalStore):
        def put_if_absent(self, path: str, data: bytes) -> bool:
            for one in self.list("date=2026-01-01"):
                os.utime(self.root / one.path, (place.time.now.timestamp(),) * 2)
            place.time.pass_by(2 * ORPHAN_AGE_S)
            place.another_upkeep().run()
            return super().put_if_absent(path, data)

    slept = DeltaLog(Asleep(place.folder), AGENT_MESSAGES, now=place.time)
    version = slept.head() + 1
    assert slept.put(version, codec.to_arrow([message("slept")], version)).won
    assert ids(place.log) == [*expected(20), "slept"]


# --- while others work -------------------------------------------------------------------------------------------------


@contextmanager
def looping(upkeep: Upkeep) -> Iterator[list[BaseException]]:
    stop, errors = threading.Event(), []

    def loop() -> None:
        try:
            while not stop.is_set():
                upkeep.run(force=True)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield errors
    finally:
        stop.set()
        thread.join()


def test_writers_and_followers_beside_a_looping_upkeep(place: Place) -> None:
    """One that follows every entry, and one that sleeps and has to leap, see each row once and in order."""
    seen: dict[str, list[str]] = {"follower": [], "leaper": []}

    def moved(follower: Follower, name: str) -> None:
        def tell(_: int, rows: list[Message]) -> None:
            seen[name].extend(m.message_id for m in rows)

        follower.advance(tell)

    follower, leaper = place.start(), place.start()
    with looping(place.another_upkeep(checkpoint_every=10)) as errors:
        for part in range(6):
            place.send(25, f"p{part}-")
            moved(follower, "follower")
    moved(follower, "follower")
    moved(leaper, "leaper")
    assert errors == []
    every = [name for part in range(6) for name in expected(25, f"p{part}-")]
    assert not place.log.exists(1)
    assert seen == {"follower": every, "leaper": every}
    assert ids(place.log) == every


def test_two_upkeeps_at_once_do_no_harm(place: Place) -> None:
    """They may find each other in the way; what they leave is whole."""
    from bus.log.compaction import Overtaken

    upkeeps = [place.another_upkeep(checkpoint_every=10) for _ in range(2)]
    errors: list[BaseException] = []

    def work(upkeep: Upkeep) -> None:
        for _ in range(8):
            try:
                upkeep.run(force=True)
            except Overtaken:
                continue
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=work, args=(one,)) for one in upkeeps]
    for thread in threads:
        thread.start()
    place.send(120)
    for thread in threads:
        thread.join()
    place.upkeep.run(force=True)
    assert errors == []
    assert ids(place.log) == expected(120)
    assert [m.message_id for m in place.start().state.open_for("A")] == expected(120)


def test_a_projections_position_survives(tmp_path: Path) -> None:
    from deltalake import DeltaTable

    log = DeltaLog(tmp_path, AGENT_EVENTS)
    log.create()
    upkeep = Upkeep(log, Consumers(log), Limits(checkpoint_every=5))
    for n in range(30):
        log.append(AGENT_EVENTS.file_schema.empty_table(), txns={"projector:agent_events": n})
        upkeep.run()
    assert not log.exists(5)
    assert DeltaTable(str(tmp_path)).transaction_version("projector:agent_events") == 29


def test_no_table_says_what_to_do(tmp_path: Path) -> None:
    log = DeltaLog(tmp_path, AGENT_MESSAGES)
    with pytest.raises(LogMissing, match="tailrace init"):
        Upkeep(log, Consumers(log)).run()


def test_many_messages_in_few_entries_are_written_down_as_well(tmp_path: Path) -> None:
    table = DeltaLog(tmp_path / "agent_messages", AGENT_MESSAGES)
    table.create()
    bus = LogBus(table)
    row = {"message_id": "", "correlation_id": "c", "to_agent": "A", "kind": "Ping", "content": "{}", "timestamp": 1}
    for commit in range(2):
        rows = [{**row, "message_id": f"m{commit}-{n}"} for n in range(200)]
        bus.submit_rows(rows, {"from_agent": "user:eli", "message_type": "request"}).result(timeout=30)
    bus.close()
    done = Upkeep(table, Consumers(table), Limits(rows_every=300), Folding(Snapshots(table), lambda _: True)).run()
    assert (done.checkpoint, done.state) == (done.version, done.version)
    written = Snapshots(table).newest()
    assert written is not None
    assert len(written.open_for("A")) == 400
