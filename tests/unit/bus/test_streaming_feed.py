"""The streaming feed's own rules, with a Spark that is none: what is pending, what is handed over, and in which order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bus.base import Arrival
from bus.fold import State
from bus.log import rows as codec
from bus.streaming.feed import StreamingFeed
from schemas.envelope import EVERYONE, Message
from tests.unit.bus.logs import make_log, message


class FakeQuery:
    def __init__(self) -> None:
        self._stopped = threading.Event()
        self.recentProgress: list[Any] = []

    def awaitTermination(self) -> None:
        self._stopped.wait()

    def stop(self) -> None:
        self._stopped.set()


class FakeSpark:
    """Whatever is asked of it it is itself, until `start` gives a query; `options` keeps what it was told."""

    def __init__(self) -> None:
        self.options: list[tuple[str, str]] = []
        self.queries: list[FakeQuery] = []
        self.begun = threading.Condition()

    def __getattr__(self, _: str) -> Any:
        return self

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self

    def option(self, name: str, value: str) -> FakeSpark:
        self.options.append((name, value))
        return self

    def start(self) -> FakeQuery:
        with self.begun:
            self.queries.append(FakeQuery())
            self.begun.notify_all()
        return self.queries[-1]

    def wait_for(self, generation: int) -> None:
        with self.begun:
            assert self.begun.wait_for(lambda: len(self.queries) >= generation, 20)


class Frame:
    """A micro-batch."""

    def __init__(self, *rows: Message) -> None:
        self._rows = rows

    def toArrow(self) -> Any:
        import pyarrow as pa

        parts = [codec.to_arrow([row], row.log_version) for row in self._rows]
        place = parts[0].schema.get_field_index("seq")
        return pa.concat_tables(
            part.set_column(place, "seq", pa.array([row.seq], pa.int32()))
            for part, row in zip(parts, self._rows, strict=True)
        )


class FakeBus:
    """A bus that the test drives: `commit` is what its threads do, under its lock."""

    def __init__(self) -> None:
        self.state = State()
        self.lock = threading.RLock()
        self._listeners: list[Callable[[Arrival], None]] = []
        self.on_catch_up: Callable[[], None] = lambda: None

    def subscribe(self, listener: Callable[[Arrival], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def catch_up(self) -> int:
        self.on_catch_up()
        with self.lock:
            return self.state.version

    def commit(self, *rows: Message, own: bool) -> list[Message]:
        with self.lock:
            version = max(self.state.version, 0) + 1
            placed = [row.model_copy(update={"log_version": version, "seq": seq}) for seq, row in enumerate(rows)]
            valid = self.state.absorb(placed)
            for listener in list(self._listeners):
                listener(Arrival(version, tuple(valid), own))
        return placed


class Stand:
    def __init__(self, folder: Path) -> None:
        self.bus, self.spark = FakeBus(), FakeSpark()
        self.delivered: list[str] = []
        bus: Any = self.bus
        self.feed = StreamingFeed(bus, make_log(folder / "log"), folder / "checkpoints", lambda: self.spark)

    def start(self) -> None:
        self.feed.start(["A"], lambda rows: self.delivered.extend(row.message_id for row in rows))

    def stream(self, *rows: Message) -> None:
        self.feed._batch(Frame(*rows), 0)


@pytest.fixture
def stand(tmp_path: Path) -> Any:
    made = Stand(tmp_path)
    yield made
    made.feed.stop()


def test_what_is_open_is_handed_over_and_the_stream_begins_there(stand: Stand) -> None:
    stand.bus.commit(message("a"), message("b"), own=False)
    stand.bus.commit(message("c"), own=False)
    stand.start()
    assert stand.delivered == ["a", "b", "c"]
    assert ("startingVersion", "2") in stand.spark.options


def test_rows_from_outside_wait_for_the_stream_and_own_ones_do_not(stand: Stand) -> None:
    stand.start()
    (theirs,) = stand.bus.commit(message("theirs", correlation_id="x"), own=False)
    assert stand.delivered == []
    stand.bus.commit(message("ours", correlation_id="y"), own=True)
    assert stand.delivered == ["ours"]
    stand.stream(theirs)
    assert stand.delivered == ["ours", "theirs"]
    assert (stand.feed.handed_over, stand.feed.streamed) == (1, 1)


def test_an_own_row_waits_behind_an_earlier_one_of_its_conversation(stand: Stand) -> None:
    stand.start()
    (first,) = stand.bus.commit(message("first"), own=False)
    (second,) = stand.bus.commit(message("second"), own=True)
    (third,) = stand.bus.commit(message("third"), own=True)
    assert stand.delivered == []
    stand.stream(second, first)
    assert stand.delivered == ["first", "second"]
    (fourth,) = stand.bus.commit(message("fourth"), own=True)
    assert stand.delivered == ["first", "second"]
    stand.stream(fourth, third)
    stand.bus.commit(message("fifth"), own=True)
    assert stand.delivered == ["first", "second", "third", "fourth", "fifth"]


def test_a_batch_is_put_into_the_logs_order(stand: Stand) -> None:
    stand.start()
    rows = [stand.bus.commit(message(f"m{n}"), message(f"n{n}"), own=False) for n in range(4)]
    stand.stream(*[row for commit in reversed(rows) for row in reversed(commit)])
    assert stand.delivered == [f"{x}{n}" for n in range(4) for x in "mn"]


def test_an_event_is_for_whoever_subscribed_when_it_was_published(stand: Stand) -> None:
    stand.start()
    stand.bus.state.subscribe("A", ["Rang"])
    (rang,) = stand.bus.commit(message("rang", to_agent=EVERYONE, message_type="event", kind="Rang"), own=False)
    stand.bus.state.subscribe("A", [])
    (late,) = stand.bus.commit(message("late", to_agent=EVERYONE, message_type="event", kind="Rang"), own=False)
    stand.stream(rang, late)
    assert stand.delivered == ["rang"]
    # Nothing is pending any more, so that what is ours may go on at once.
    stand.bus.commit(message("ours"), own=True)
    assert stand.delivered == ["rang", "ours"]


def test_what_another_instance_settled_meanwhile_holds_nothing_back(stand: Stand) -> None:
    stand.start()
    (theirs,) = stand.bus.commit(message("theirs"), own=False)
    receipt = {"message_type": "receipt", "kind": "Receipt", "from_agent": "A", "to_agent": "", "handling_id": "r"}
    stand.bus.commit(message("r", causation_id="theirs", **receipt), own=False)
    stand.stream(theirs)
    stand.bus.commit(message("ours"), own=True)
    assert stand.delivered == ["ours"]


def test_a_new_generation_hands_over_what_the_old_stream_still_had(stand: Stand) -> None:
    stand.start()
    stand.bus.commit(message("lost with the stream"), own=False)
    stand.spark.queries[0].stop()
    stand.spark.wait_for(2)
    assert stand.delivered == ["lost with the stream"]
    stand.bus.commit(message("ours"), own=True)
    assert stand.delivered == ["lost with the stream", "ours"]
    checkpoints = [value for name, value in stand.spark.options if name == "checkpointLocation"]
    assert len(set(checkpoints)) == 2


def test_an_own_row_does_not_overtake_what_a_new_generation_is_about_to_hand_over(stand: Stand) -> None:
    stand.start()
    stand.bus.commit(message("first"), own=False)
    # While the new generation looks at the log, this host commits the conversation's next message.
    once = iter([True])
    stand.bus.on_catch_up = lambda: next(once, False) and stand.bus.commit(message("second"), own=True) and None
    stand.spark.queries[0].stop()
    stand.spark.wait_for(2)
    assert stand.delivered[:2] == ["first", "second"]


def test_the_bus_may_commit_while_a_generation_begins(stand: Stand) -> None:
    """The bus's thread holds its lock when it takes the feed's: whoever takes them the other way round waits for ever."""
    stand.start()
    asking, told = threading.Event(), threading.Event()

    def commit() -> None:
        with stand.bus.lock:
            assert asking.wait(20)
            stand.bus.commit(message("meanwhile"), own=True)
        told.set()

    stand.bus.on_catch_up = asking.set
    committer = threading.Thread(target=commit, daemon=True)
    committer.start()
    stand.spark.queries[0].stop()
    assert told.wait(20), "the bus waits for the feed, and the feed for the bus"
    stand.spark.wait_for(2)
    committer.join()


def test_a_stream_that_cannot_begin_is_tried_again(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bus.streaming.feed.RETRY_AFTER", 0.001)  # the module's constant: a second is long for a test
    stand.start()
    failures = iter([True, True])

    def fail() -> None:
        if next(failures, False):
            raise OSError("the log cannot be read")

    stand.bus.on_catch_up = fail
    stand.spark.queries[0].stop()
    stand.spark.wait_for(2)
    stand.bus.commit(message("ours"), own=True)
    assert stand.delivered == ["ours"]
