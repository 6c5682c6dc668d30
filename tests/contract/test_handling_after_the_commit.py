"""The whole contract on SparkBus, which decides after the commit: over a table in memory, so that races are many and fast.

The table stands in for Spark's side alone: it numbers commits, knows who committed what, and shows whole ones. The same bus
over Spark itself is in tests/integration/bus/test_spark_bus.py.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import date
from typing import Any

import pyarrow as pa
import pytest

from bus.base import Bus, Feed
from bus.errors import LogError, MissingKey, Superseded
from bus.fold import State, valid_rows
from bus.log import rows as codec
from bus.streaming.spark_bus import SparkBus, indivisible
from bus.streaming.spark_table import Commit, commits
from bus.tail import TailFeed
from schemas.envelope import Message
from tests.contract.harness import Ping, _Worlds, error_of, message, result
from tests.contract.test_handling import *  # noqa: F403  # every test of the contract, for the world below
from tests.contract.test_handling import claim, output_of, receipt_for


class CommittedRows:
    """What several tables share, as several sessions share a Delta table."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.commits: list[pa.Table] = []
        self.numbers: dict[str, int] = {}


class ListTable:
    """A SparkTable without Spark. `hesitates`: appends wait for it, after they were decided."""

    name = "in memory"

    def __init__(self, shared: CommittedRows, hesitates: threading.Barrier | None = None) -> None:
        self._shared = shared
        self._hesitates = hesitates
        self.fails_before = 0
        self.fails_after = 0
        self.tried: tuple[list[Message], str, int] | None = None
        #: A commit that was given up, and arrives in the moment of the next one.
        self.late: tuple[list[Message], str, int] | None = None

    def check(self) -> str:
        return "in-memory"

    def append(self, messages: Sequence[Message], app_id: str, number: int) -> None:
        self.tried = (list(messages), app_id, number)
        if self._hesitates is not None:
            self._hesitates.wait(10)
        if self.late is not None:
            late, self.late = self.late, None
            self.commit(*late)
        if self.fails_before:
            self.fails_before -= 1
            raise LogError("the cluster is gone")
        self.commit(*self.tried)
        if self.fails_after:
            self.fails_after -= 1
            raise LogError("the answer was lost")

    def commit(self, messages: Sequence[Message], app_id: str, number: int) -> None:
        with self._shared.lock:
            if number <= self._shared.numbers.get(app_id, 0):
                return
            self._shared.numbers[app_id] = number
            rows = codec.to_arrow(messages, 0).append_column("date", pa.array([date(2026, 1, 1)] * len(messages)))
            version = pa.array([len(self._shared.commits) + 1] * len(messages), pa.int64())
            self._shared.commits.append(rows.append_column("_commit_version", version))

    def head(self) -> int:
        return len(self._shared.commits)

    def changes(self, since: int) -> list[Commit]:
        with self._shared.lock:
            found = [rows for rows in self._shared.commits[max(since - 1, 0) :] if rows.num_rows]
        return commits(pa.concat_tables(found)) if found else []

    def scan(self, conversation: str | None = None, above: int | None = None) -> list[Commit]:
        found = self.changes(1 if above is None else above + 1)
        return [(v, [m for m in rows if conversation in (None, m.correlation_id)]) for v, rows in found]


class ListWorld(_Worlds):
    def __init__(self) -> None:
        super().__init__()
        self.shared = CommittedRows()

    def bus(self, state: State | None = None, hesitates: threading.Barrier | None = None, **how: Any) -> Any:
        table: Any = ListTable(self.shared, hesitates)
        bus: Bus = SparkBus(table, state=state, poll_s=0.002, **how)
        return self._opened(bus)

    def feed(self, bus: Bus) -> Feed:
        return TailFeed(bus)

    def raw(self) -> list[Message]:
        return [row for _, rows in ListTable(self.shared).changes(1) for row in rows]

    def rows(self) -> list[dict[str, Any]]:
        """Those that count: the others are what this bus leaves where LogBus leaves nothing."""
        return [row.model_dump() for row in valid_rows(self.raw())]


@pytest.fixture
async def world() -> AsyncIterator[ListWorld]:
    made = ListWorld()
    yield made
    await made.close()


@pytest.mark.parametrize("count", [2, 4])
async def test_of_those_who_decide_at_once_one_counts_and_the_others_are_told(world: ListWorld, count: int) -> None:
    asked = [message(Ping(n=n)) for n in range(3)]
    result(world.bus().submit(asked))
    for one in asked:
        barrier = threading.Barrier(count)
        rivals = [world.bus(hesitates=barrier) for _ in range(count)]
        futures = []
        for place, bus in enumerate(rivals):
            handling = f"{place}-{one.message_id}"
            plain = message(Ping(n=9), to="user:eli", message_id=f"plain-{handling}")
            rows = [receipt_for(one, "Pinger", handling), output_of(one, "Pinger", handling), plain]
            futures.append(bus.submit(rows))
        errors = [error_of(future) for future in futures]
        assert Counter(type(error) for error in errors) == {type(None): 1, Superseded: count - 1}
        winner = errors.index(None)
        counting = [row["message_id"] for row in world.rows() if row["handling_id"] == f"{winner}-{one.message_id}"]
        assert len(counting) == 3
        for bus in rivals:
            bus.catch_up()
            assert (one.message_id, "Pinger") not in bus.state.open
            bus.close()
    assert Counter(row["kind"] for row in world.rows()) == {"Ping": 6, "Receipt": 3, "Pong": 3}
    assert Counter(row.kind for row in world.raw()) == {"Ping": 3 + 3 * count, "Receipt": 3 * count, "Pong": 3 * count}


async def test_of_two_claims_made_at_once_one_counts(world: ListWorld) -> None:
    barrier = threading.Barrier(2)
    futures = [world.bus(hesitates=barrier).submit([claim("g", f"instance-{n}")]) for n in range(2)]
    errors = [error_of(future) for future in futures]
    assert Counter(type(error) for error in errors) == {type(None): 1, Superseded: 1}
    assert len(world.of_kind("ExecutionClaimed")) == 1


async def test_a_commit_that_was_given_up_never_comes_after_its_successors(world: ListWorld) -> None:
    bus = world.bus()
    bus.table.fails_before = 1
    assert isinstance(error_of(bus.submit([message(Ping(n=1))])), LogError)
    late = bus.table.tried
    following = message(Ping(n=2))
    result(bus.submit([following]))
    bus.table.commit(*late)
    assert [m.message_id for m in world.raw()] == [following.message_id]


class NumberingSeal:
    """Gives each row the next number, as an audit chain gives its facts their places."""

    def __init__(self) -> None:
        self.upto = self.tried = 0

    def apply(self, messages: Sequence[Message]) -> list[Message]:
        if any(m.from_agent == "user:nobody" for m in messages):
            raise MissingKey("this process holds no key for user:nobody")
        self.tried = self.upto + len(messages)
        numbered = enumerate(messages, self.upto + 1)
        return [m.model_copy(update={"traceparent": str(number)}) for number, m in numbered]

    def commit(self) -> None:
        self.upto = self.tried


async def test_what_cannot_be_signed_does_not_keep_its_neighbours_out(world: ListWorld) -> None:
    bus = world.bus(seal=NumberingSeal(), linger_ms=50)
    senders = ["user:eli", "user:nobody", "user:eli"]
    futures = [bus.submit([message(Ping(n=n), from_agent=sender)]) for n, sender in enumerate(senders)]
    assert [type(error_of(future)) for future in futures] == [type(None), MissingKey, type(None)]
    assert [m.traceparent for m in world.raw()] == ["1", "2"]


async def test_a_commit_that_comes_late_takes_its_place_in_the_audit_chain_before_another_does(
    world: ListWorld,
) -> None:
    bus = world.bus(seal=NumberingSeal())
    result(bus.submit([message(Ping(n=0))]))
    bus.table.fails_before = 1
    given_up = message(Ping(n=1))
    assert isinstance(error_of(bus.submit([given_up])), LogError)
    bus.table.late = bus.table.tried
    following = message(Ping(n=2))
    result(bus.submit([following]))
    assert [(m.message_id, m.traceparent) for m in world.raw()[1:]] == [
        (given_up.message_id, "2"),
        (following.message_id, "3"),
    ]


async def test_while_nobody_knows_whether_it_came_nothing_follows(world: ListWorld) -> None:
    bus = world.bus()
    bus.table.fails_before = 2
    refused = [error_of(bus.submit([message(Ping(n=n))])) for n in range(2)]
    assert [type(error) for error in refused] == [LogError, LogError]
    assert world.raw() == []
    result(bus.submit([message(Ping(n=3))]))
    assert len(world.raw()) == 1


async def test_a_commit_that_was_made_and_not_confirmed_is_found_and_stands_once(world: ListWorld) -> None:
    bus = world.bus()
    bus.table.fails_after = 1
    first, second = message(Ping(n=1)), message(Ping(n=2))
    outcome = error_of(bus.submit([first]))
    assert outcome is None or isinstance(outcome, LogError)
    result(bus.submit([second]))
    assert [m.message_id for m in world.raw()] == [first.message_id, second.message_id]
    assert set(bus.state.open) == {(first.message_id, "Pinger"), (second.message_id, "Pinger")}


def test_rows_beside_a_receipt_count_with_it_or_not_at_all() -> None:
    asked, extra = message(Ping(n=1)), message(Ping(n=2))
    receipt, output = receipt_for(asked, "Pinger", "h"), output_of(asked, "Pinger", "h")
    marked = indivisible([extra, receipt, output])
    assert [m.message_id for m in marked] == [receipt.message_id, extra.message_id, output.message_id]
    assert {row.handling_id for row in marked} == {"h"}
    assert indivisible([extra, asked]) == [extra, asked]
    assert len(indivisible([claim("g", "i")])) == 1
    two: list[list[Message]] = [
        [claim("g", "i"), extra],
        [claim("g", "i"), claim("k", "i")],
        [receipt, claim("g", "i")],
    ]
    for rows in two:
        with pytest.raises(ValueError, match="decides one thing"):
            indivisible(rows)


async def test_a_submission_of_two_decisions_is_refused_aloud(world: ListWorld) -> None:
    error = error_of(world.bus().submit([claim("g", "i"), claim("k", "i")]))
    assert isinstance(error, ValueError)
    assert world.raw() == []
