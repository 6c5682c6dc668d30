"""The bus over the log: group commits, rivals, sleepers, and what it says when the table is no longer a log."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

import bus.log.bus as bus_module
from bus.base import Arrival
from bus.errors import Closed, ContentTooLarge, ForeignLog, Superseded
from bus.fold import State
from bus.log.bus import LogBus, read_conversation
from bus.log.follower import Accept
from bus.log.snapshot import Snapshots
from bus.log.store import LocalStore
from bus.log.table import DeltaLog
from schemas.envelope import Message
from tests.unit.bus.logs import FullDisk, LostResponse, append, checkpoint_and_clean, ids, make_log, message, open_log

PATIENCE = 20.0


def receipt(for_: str, handling: str) -> Message:
    return message(
        handling,
        causation_id=for_,
        from_agent="A",
        to_agent="",
        message_type="receipt",
        kind="Receipt",
        handling_id=handling,
    )


def output(handling: str) -> Message:
    return message(
        f"out-{handling}", from_agent="A", to_agent="user:eli", message_type="response", handling_id=handling
    )


class Arrivals:
    """What a bus tells its listeners."""

    def __init__(self, bus: LogBus) -> None:
        self.came: list[Arrival] = []
        self._changed = threading.Condition()
        bus.subscribe(self._note)

    def _note(self, arrival: Arrival) -> None:
        with self._changed:
            self.came.append(arrival)
            self._changed.notify_all()

    @property
    def ids(self) -> list[str]:
        return [row.message_id for arrival in self.came for row in arrival.rows]

    def until(self, message_id: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: message_id in self.ids, PATIENCE), self.ids


def done(future: Future[int]) -> int:
    return future.result(PATIENCE)


# --- following --------------------------------------------------------------------------------------------------------


def test_a_bus_hears_what_others_append(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    append(log, message("before"))
    bus = LogBus(open_log(tmp_path))
    heard = Arrivals(bus)
    append(log, message("one"), message("two"))
    append(log, message("three"))
    heard.until("three")
    assert heard.ids == ["one", "two", "three"]
    assert [arrival.own for arrival in heard.came] == [False, False]
    assert [m.message_id for m in bus.state.open_for("A")] == ["before", "one", "two", "three"]
    bus.close()


def test_versions_come_in_order_and_once_to_every_listener_of_every_writer(tmp_path: Path) -> None:
    make_log(tmp_path)
    buses = [LogBus(open_log(tmp_path)) for _ in range(3)]
    heard = [Arrivals(bus) for bus in buses]

    def write(bus: LogBus, name: str) -> None:
        for future in [bus.submit([message(f"{name}-{n}")]) for n in range(40)]:
            done(future)

    threads = [threading.Thread(target=write, args=(bus, f"w{place}")) for place, bus in enumerate(buses)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for bus in buses:
        bus.catch_up()
    written = ids(open_log(tmp_path))
    assert len(written) == len(set(written)) == 120
    for listener in heard:
        assert listener.ids == written
        versions = [arrival.version for arrival in listener.came]
        assert versions == list(range(1, versions[-1] + 1))
    for bus in buses:
        bus.close()


def test_concurrent_appends_share_a_commit(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    bus = LogBus(open_log(tmp_path), linger_ms=100)
    futures = [bus.submit([message(f"m{n}")]) for n in range(50)]
    assert len({done(future) for future in futures}) < 10
    assert ids(log) == [f"m{n}" for n in range(50)]
    bus.close()


def test_a_conversation_that_was_forgotten_is_read_from_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The limit is a constant of the module: 10,000 conversations would take a minute to write.
    monkeypatch.setattr("bus.conversations.CLOSED_KEPT", 2)
    log = make_log(tmp_path)
    bus = LogBus(open_log(tmp_path))
    for n in range(5):
        done(bus.submit([message(f"root{n}", correlation_id=f"c{n}", to_agent="user:eli")]))
    done(bus.submit([message("later", correlation_id="c0", causation_id="root0", to_agent="user:eli")]))
    assert [m.message_id for m in bus.conversation("c0")] == ["root0", "later"]
    assert [m.message_id for m in bus.conversation("c4")] == ["root4"]
    assert bus.conversation("never") == []
    assert [m.message_id for m in read_conversation(log, "c0")] == ["root0", "later"]
    bus.close()


def test_a_receipt_that_nobody_signed_hides_nothing_of_a_conversation_read_from_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bus.conversations.CLOSED_KEPT", 0)
    log = make_log(tmp_path)
    signed = {"key_id": "a", "correlation_id": "c"}
    append(log, message("root", correlation_id="c"), receipt("root", "forged").with_fields(correlation_id="c"))
    append(log, *(row.with_fields(**signed) for row in (receipt("root", "real"), output("real"))))
    remembering = LogBus(open_log(tmp_path), accept=lambda row: row.key_id is not None)
    passing = LogBus(open_log(tmp_path), accept=lambda row: row.key_id is not None, follow_only=True)
    for bus in (remembering, passing):
        assert [m.message_id for m in bus.conversation("c")] == ["root", "out-real"]
        bus.close()


# --- closing ----------------------------------------------------------------------------------------------------------


def test_closing_commits_what_was_submitted_and_answers_everything(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    bus = LogBus(open_log(tmp_path), linger_ms=5)
    futures: list[Future[int]] = []
    start = threading.Barrier(2)

    def write() -> None:
        start.wait()
        for n in range(300):
            futures.append(bus.submit([message(f"m{n}")]))

    thread = threading.Thread(target=write)
    thread.start()
    start.wait()
    bus.close()
    thread.join()
    refused = [f for f in futures if isinstance(f.exception(PATIENCE), Closed)]
    assert ids(log) == [f"m{n}" for n in range(300 - len(refused))]
    bus.close()
    assert isinstance(bus.submit([message()]).exception(PATIENCE), Closed)


# --- the disk ---------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_said_to_whoever_submitted_and_the_bus_goes_on(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    store = FullDisk(tmp_path, 0)
    bus = LogBus(open_log(tmp_path, store))
    with pytest.raises(OSError, match="No space left"):
        done(bus.submit([message("lost")]))
    store.room = 1 << 30
    done(bus.submit([message("kept")]))
    assert ids(log) == ["kept"]
    bus.close()


def test_a_lost_answer_neither_loses_nor_repeats(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    bus = LogBus(open_log(tmp_path, LostResponse(tmp_path, times=3)))
    heard = Arrivals(bus)
    for n in range(5):
        done(bus.submit([message(f"m{n}")]))
    assert ids(log) == heard.ids == [f"m{n}" for n in range(5)]
    bus.close()


class Flaky(LocalStore):
    """Fails to read once, when told to."""

    fails = False

    def get(self, path: str) -> bytes | None:
        if self.fails and "_delta_log/000" in path:
            self.fails = False
            raise OSError("the disk hiccuped")
        return super().get(path)


def test_a_read_that_fails_once_does_not_end_the_tail(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    store = Flaky(tmp_path)
    bus = LogBus(open_log(tmp_path, store))
    heard = Arrivals(bus)
    store.fails = True
    append(log, message("one"))
    heard.until("one")
    append(log, message("two"))
    heard.until("two")
    assert heard.ids == ["one", "two"]
    bus.close()


def test_a_message_that_cannot_be_written_is_refused_alone(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    bus = LogBus(open_log(tmp_path), linger_ms=50)
    futures = [
        bus.submit([message("a")]),
        bus.submit([message("b", schema_version=1 << 80)]),
        bus.submit([message("c")]),
    ]
    errors = [future.exception(PATIENCE) for future in futures]
    assert [error is None for error in errors] == [True, False, True]
    assert ids(log) == ["a", "c"]
    bus.close()


# --- whoever slept ----------------------------------------------------------------------------------------------------


class Sleepy(LocalStore):
    """Sees nothing new in the log until it wakes, like a process that was stopped."""

    asleep = False
    woken = threading.Event()

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.known: set[str] = set()

    def sleep(self) -> None:
        self.known = set(self.names("_delta_log"))
        self.asleep = True

    def exists(self, path: str) -> bool:
        if self.asleep:
            return path.rsplit("/", 1)[-1] in self.known
        return super().exists(path)

    def get(self, path: str) -> bytes | None:
        if self.asleep and path.rsplit("/", 1)[-1] not in self.known:
            return None
        return super().get(path)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        # It was stopped here, with its entry in its hand.
        self.asleep = False
        return super().put_if_absent(path, data)


def slept(tmp_path: Path, state: State | None = None) -> tuple[LogBus, Arrivals]:
    """A bus that was stopped at version 3 while others went on to 9 and cleaned the log behind them."""
    log = make_log(tmp_path)
    for n in range(3):
        append(log, message(f"m{n}"))
    store = Sleepy(tmp_path)
    bus = LogBus(open_log(tmp_path, store), state=state)
    heard = Arrivals(bus)
    store.sleep()
    for n in range(3, 8):
        append(log, message(f"m{n}"))
    append(log, receipt("m0", "theirs"), output("theirs"))
    assert checkpoint_and_clean(log) == 9
    return bus, heard


def test_a_writer_that_slept_writes_at_the_living_head(tmp_path: Path) -> None:
    bus, heard = slept(tmp_path)
    assert done(bus.submit([message("mine")])) == 10
    assert ids(open_log(tmp_path))[-1] == "mine"
    assert heard.ids == ["m3", "m4", "m5", "m6", "m7", "theirs", "out-theirs", "mine"]
    assert [m.message_id for m in bus.state.open_for("A")] == [f"m{n}" for n in range(1, 8)] + ["mine"]
    bus.close()


def test_a_decision_made_while_it_slept_is_lost_and_an_open_one_is_not(tmp_path: Path) -> None:
    bus, _ = slept(tmp_path)
    lost, won = bus.submit([receipt("m0", "late"), output("late")]), bus.submit([receipt("m1", "mine"), output("mine")])
    assert "receipt:m0:A" in str(lost.exception(PATIENCE))
    assert done(won) == 10
    written = ids(open_log(tmp_path))
    assert written[-2:] == ["mine", "out-mine"]
    assert "late" not in written
    assert len(written) == len(set(written))
    bus.close()


def test_two_that_slept_in_the_same_place_do_not_follow_each_other(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    append(log, message("m0"))
    stores = [Sleepy(tmp_path), Sleepy(tmp_path)]
    buses = [LogBus(open_log(tmp_path, store)) for store in stores]
    heard = [Arrivals(bus) for bus in buses]
    for store in stores:
        store.sleep()
    for n in range(1, 6):
        append(log, message(f"m{n}"))
    checkpoint_and_clean(log)
    assert [done(bus.submit([message(f"late{place}")])) for place, bus in enumerate(buses)] == [7, 8]
    for listener in heard:
        listener.until("late1")
        assert listener.ids == ["m1", "m2", "m3", "m4", "m5", "late0", "late1"]
    for bus in buses:
        bus.close()


def test_a_tail_that_slept_hears_what_it_missed(tmp_path: Path) -> None:
    bus, heard = slept(tmp_path)
    bus.table.store.asleep = False
    append(open_log(tmp_path), message("m9"))
    heard.until("m9")
    assert heard.ids == ["m3", "m4", "m5", "m6", "m7", "theirs", "out-theirs", "m9"]
    bus.close()


def test_a_client_that_slept_gets_its_response(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    append(log, message("asked"))
    store = Sleepy(tmp_path)
    bus = LogBus(open_log(tmp_path, store), follow_only=True)
    heard = Arrivals(bus)
    store.sleep()
    append(log, receipt("asked", "h"), output("h"))
    append(log, message("later"))
    checkpoint_and_clean(log)
    store.asleep = False
    append(log, message("woken"))
    heard.until("woken")
    assert heard.ids == ["h", "out-h", "later", "woken"]
    bus.close()


def test_a_bus_opens_on_a_cleaned_log(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    append(log, message("open"))
    append(log, message("settled"))
    append(log, receipt("settled", "h"), output("h"))
    checkpoint_and_clean(log)
    bus = LogBus(open_log(tmp_path))
    assert [m.message_id for m in bus.state.open_for("A")] == ["open"]
    assert done(bus.submit([receipt("open", "h2")])) == 4
    assert bus.state.open == {}
    bus.close()


# --- no longer a log --------------------------------------------------------------------------------------------------


def spoil(log_path: Path, version: int, text: str) -> None:
    (log_path / "_delta_log" / f"{version:020d}.json").write_text(text)


@pytest.mark.parametrize("text", ["garbage", "", '{"protocol":{"minReaderVersion":3,"minWriterVersion":7}}'])
def test_a_log_that_was_spoilt_is_reported_to_whoever_submits(tmp_path: Path, text: str) -> None:
    log = make_log(tmp_path)
    append(log, message("m0"))
    bus = LogBus(open_log(tmp_path))
    spoil(tmp_path, 2, text)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    error = bus.submit([message("mine")]).exception(PATIENCE)
    assert isinstance(error, ForeignLog)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    with pytest.raises(ForeignLog):
        bus.catch_up()
    bus.close()


# --- starting from a written state ------------------------------------------------------------------------------------


def test_a_bus_that_starts_from_a_written_state_knows_what_every_other_knows(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    bus = LogBus(open_log(tmp_path))
    for n in range(5):
        done(bus.submit([message(f"m{n}", correlation_id=f"c{n}")]))
    done(bus.submit([receipt("m0", "h0")]))
    Snapshots(log).write(bus.state)
    done(bus.submit([message("later", correlation_id="c1", causation_id="m1")]))
    done(bus.submit([receipt("m2", "h2")]))
    started = LogBus(open_log(tmp_path), snapshots=Snapshots(open_log(tmp_path)))
    assert list(started.state.open) == list(bus.state.open)
    assert [m.message_id for m in started.conversation("c1")] == ["m1", "later"]
    assert [m.message_id for m in started.conversation("c0")] == ["m0"]  # closed: read from the table again
    assert started.conversation("never") == []
    for message_id in ("m0", "m2"):
        with pytest.raises(Superseded):
            done(started.submit([receipt(message_id, "again")]))
    # What the written state lists as seen is a replay, though its row is nowhere in memory.
    done(started.submit([message("m0", correlation_id="elsewhere")]))
    assert started.conversation("elsewhere") == []
    started.close()
    bus.close()


def test_a_written_state_from_another_life_of_the_table_is_not_taken(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    bus = LogBus(open_log(tmp_path))
    done(bus.submit([message("m0")]))
    bus.state.version = 1_000  # as if the table had been restored from before the state was written
    Snapshots(log).write(bus.state)
    bus.close()
    started = LogBus(open_log(tmp_path), snapshots=Snapshots(open_log(tmp_path)))
    assert started.state.version == 1
    started.close()


def test_a_forgotten_conversation_that_goes_on_while_it_is_read_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bus.conversations.CLOSED_KEPT", 1)
    make_log(tmp_path)
    bus, other = LogBus(open_log(tmp_path)), LogBus(open_log(tmp_path))
    for conversation in ("old", "new"):
        done(bus.submit([message(f"{conversation}-root", correlation_id=conversation, to_agent="user:eli")]))
    read = bus_module.read_conversation

    def slowly(table: DeltaLog, correlation_id: str, accept: Accept) -> list[Message]:
        found = read(table, correlation_id, accept)
        late = message("late", correlation_id="old", causation_id="old-root", to_agent="user:eli")
        version = done(other.submit([late]))
        while bus.state.version < version:
            bus.catch_up()
        return found

    monkeypatch.setattr(bus_module, "read_conversation", slowly)
    assert [m.message_id for m in bus.conversation("old")] == ["old-root", "late"]
    monkeypatch.setattr(bus_module, "read_conversation", read)
    assert [m.message_id for m in bus.conversation("old")] == ["old-root", "late"]
    other.close()
    bus.close()


def test_committing_in_ones_own_thread_is_submitting_and_waiting(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    bus, rival = LogBus(open_log(tmp_path)), LogBus(open_log(tmp_path))
    start = threading.Barrier(5)

    def write(number: int, its: LogBus) -> None:
        start.wait()
        for n in range(10):
            its.submit_here([message(f"m{number}-{n}")]).result(PATIENCE)

    threads = [threading.Thread(target=write, args=(n, rival if n == 3 else bus)) for n in range(4)]
    for thread in threads:
        thread.start()
    start.wait()
    futures = [bus.submit([message(f"s{n}")]) for n in range(10)]
    for thread in threads:
        thread.join()
    assert all(done(future) > 0 for future in futures)
    assert sorted(ids(log)) == sorted(
        [f"m{number}-{n}" for number in range(4) for n in range(10)] + [f"s{n}" for n in range(10)]
    )
    assert [m.message_id for m in bus.state.open_for("A")] == ids(log)
    with pytest.raises(Superseded):
        bus.submit_here([receipt("never", "h")]).result(PATIENCE)
    with pytest.raises(ContentTooLarge):
        bus.submit_here([message("large", content="x" * (1 << 21))]).result(PATIENCE)
    rival.close()
    bus.close()
    with pytest.raises(Closed):
        bus.submit_here([message("late")]).result(PATIENCE)
