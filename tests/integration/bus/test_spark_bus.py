"""The bus through Spark, as on Unity Catalog: decisions after the commit, and still one that counts.

The local log store is safe within one JVM only. So two writers are two sessions of one JVM here, and a writer that is
killed has a JVM of its own and nobody beside it. Catalog-managed tables cannot be tried outside Databricks.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bus.base import Arrival
from bus.errors import ForeignLog, LogError, LogMissing, Superseded
from bus.fold import valid_rows
from bus.streaming.feed import ChangeFeed
from bus.streaming.spark_table import SparkTable
from tests.contract.harness import Ping, Pinger, eventually, message
from tests.contract.test_handling import (
    claim,
    output_of,
    receipt_for,
    test_a_request_gets_its_response,
)
from tests.integration.bus.spark_world import SparkWorld

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

#: Of the contract, what shows that Spark does its part; all of it runs in tests/contract/test_handling_after_the_commit.py.
__all__ = ["test_a_request_gets_its_response"]


@pytest.fixture
async def world(tmp_path: Path, spark: Any) -> AsyncIterator[SparkWorld]:
    made = SparkWorld(tmp_path, spark)
    yield made
    await made.close()


def result(future: Any) -> int:
    """With more patience than the contract has: an append is seconds of work where others work too."""
    version: int = future.result(timeout=120)
    return version


def error_of(future: Any) -> BaseException | None:
    error: BaseException | None = future.exception(timeout=120)
    return error


def ids(rows: Any) -> list[str]:
    return [row["message_id"] if isinstance(row, dict) else row.message_id for row in rows]


# --- races ------------------------------------------------------------------------------------------------------------


class Together(SparkTable):
    """Nobody appends before all have decided to: the race that LogBus does not know."""

    start: threading.Barrier

    def append(self, messages: Any, app_id: str, number: int) -> None:
        self.start.wait(60)
        super().append(messages, app_id, number)


async def test_of_two_that_decided_at_once_one_counts_and_the_other_is_told(world: SparkWorld) -> None:
    asked = [message(Ping(n=n)) for n in range(3)]
    Together.start = threading.Barrier(2)
    rivals = [world.bus(kind=Together, linger_ms=200) for _ in range(2)]
    result(world.bus().submit(asked))
    futures = []
    for place, bus in enumerate(rivals):
        bus.catch_up()
        rows = [
            [
                receipt_for(one, "Pinger", f"{place}-{one.message_id}"),
                output_of(one, "Pinger", f"{place}-{one.message_id}"),
            ]
            for one in asked
        ]
        futures.append([bus.submit(one) for one in [*rows, [claim("g", f"instance-{place}")]]])
    errors = [[error_of(future) for future in of_one] for of_one in futures]
    lost = [place for place, of_one in enumerate(errors) if all(isinstance(error, Superseded) for error in of_one)]
    won = [place for place, of_one in enumerate(errors) if of_one == [None] * 4]
    assert (len(won), len(lost)) == (1, 1)
    # The loser's rows are in the table, and count for nobody: not for either bus, not for the view, not for a latecomer.
    assert Counter(row["kind"] for row in world.raw()) == {"Ping": 3, "Receipt": 6, "Pong": 6, "ExecutionClaimed": 2}
    counting = world.rows()
    for kind in ("Receipt", "Pong"):
        of_kind = [row for row in counting if row["kind"] == kind]
        assert Counter(row["causation_id"] for row in of_kind) == dict.fromkeys(ids(asked), 1)
        assert {row["handling_id"].split("-", 1)[0] for row in of_kind} == {str(won[0])}
    (claimed,) = [row for row in counting if row["kind"] == "ExecutionClaimed"]
    assert f"instance-{won[0]}" in claimed["content"]
    for bus in [*rivals, world.bus()]:
        bus.catch_up()
        assert bus.state.open == {}
        assert next(iter(bus.state.claims.values())).message_id == claimed["message_id"]


async def test_two_hosts_of_one_agent_say_everything_once(world: SparkWorld) -> None:
    workers = [Pinger(rings=True), Pinger(rings=True)]
    outside = world.bus()
    for worker in workers:
        await world.host(worker)
    sent = [message(Ping(n=n), conversation=f"c{n % 4}") for n in range(6)]
    await asyncio.to_thread(lambda: result(outside.submit(sent)))
    await eventually(lambda: not outside.state.open_for("Pinger"), world.patience)
    for host in list(world._hosts):
        await world.stop(host)
    rows = world.rows()
    for kind in ("Receipt", "Pong", "Rang"):
        assert Counter(row["causation_id"] for row in rows if row["kind"] == kind) == dict.fromkeys(ids(sent), 1), kind
    for worker in workers:
        for conversation in range(4):
            of_it = [n for n in worker.began if n % 4 == conversation]
            assert of_it == sorted(of_it)


class StreamOnly(ChangeFeed):
    """What the bus hears by itself is not delivered: the stream has to bring it."""

    def _arrived(self, arrival: Arrival) -> None:
        super()._arrived(replace(arrival, own=False))


async def test_structured_streaming_over_the_change_feed_brings_what_is_new(world: SparkWorld) -> None:
    worker, outside = Pinger(), world.bus()
    before = message(Ping(n=0))
    await asyncio.to_thread(lambda: result(outside.submit([before])))
    await world.host(worker, feed=lambda bus: StreamOnly(bus, bus.table, world.path.parent / "checkpoints"))
    feed: Any = world.feeds[-1]
    await asyncio.to_thread(
        lambda: result(outside.submit([message(Ping(n=n), conversation="same") for n in (1, 2, 3)]))
    )
    await eventually(lambda: worker.ended[-3:] == [1, 2, 3], world.patience)
    assert worker.ended == [0, 1, 2, 3]
    assert feed.streamed >= 3
    assert feed.handed_over == 0


# --- what may go wrong with an append -----------------------------------------------------------------------------------


class Unreliable(SparkTable):
    """Loses the answer of an append that was made, or fails before it is made, as often as told."""

    lost_answers = 0
    failures = 0

    def _write(self, rows: Any, app_id: str, number: int) -> None:
        self.tried = (rows, app_id, number)
        if self.failures:
            self.failures -= 1
            raise OSError("the cluster is gone")
        super()._write(rows, app_id, number)
        if self.lost_answers:
            self.lost_answers -= 1
            raise OSError("the answer was lost")


async def test_an_append_whose_answer_was_lost_is_not_made_twice(world: SparkWorld) -> None:
    bus = world.bus(kind=Unreliable)
    bus.table.lost_answers = 2
    first = message(Ping(n=1))
    version = result(bus.submit([first]))
    again = result(bus.submit([message(Ping(n=2))]))
    assert again == version + 1
    assert ids(world.raw())[:1] == [first.message_id]
    assert len(world.raw()) == 2


async def test_an_append_that_was_given_up_cannot_come_later(world: SparkWorld) -> None:
    bus = world.bus(kind=Unreliable)
    bus.table.failures = 4
    given_up = bus.submit([message(Ping(n=1))])
    error = error_of(given_up)
    assert isinstance(error, LogError)
    assert "the cluster is gone" in str(error)
    ghost = bus.table.tried
    following = message(Ping(n=2))
    result(bus.submit([following]))
    world.table()._write(*ghost)  # what was on its way all the time arrives now
    assert ids(world.raw()) == [following.message_id]


async def test_a_writer_killed_before_it_was_acknowledged_leaves_one_message(world: SparkWorld, tmp_path: Path) -> None:
    before = world.bus()
    command = [sys.executable, "-m", "tests.integration.bus.killed_spark_writer", str(tmp_path), "the-message"]
    process = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert (process.returncode, process.stdout) == (-9, "")
    before.catch_up()
    assert ids(before.state.open_for("Pinger")) == ["the-message"]
    # Whoever sent it does not know, and sends it again.
    result(before.submit([message(Ping(n=1), message_id="the-message")]))
    assert ids(world.raw()) == ["the-message"] * 2
    assert ids(world.rows()) == ["the-message"]
    assert list(before.state.open) == [("the-message", "Pinger")]


# --- order ------------------------------------------------------------------------------------------------------------


async def test_everybody_sees_whole_commits_in_one_order_whoever_wrote_them(world: SparkWorld) -> None:
    follower, writer = world.bus(), world.bus()
    came: list[Arrival] = []
    follower.subscribe(came.append)
    many = [message(Ping(n=n), conversation="many") for n in range(300)]
    result(writer.submit(many))
    # A stranger numbers nothing, and writes a file a row.
    strangers = [message(Ping(n=n), conversation="many", message_id=f"stranger-{n}") for n in (3, 1, 2)]
    columns = "message_id, correlation_id, from_agent, to_agent, message_type, kind, content, "
    columns += "schema_version, priority, attempt, timestamp"
    values = ", ".join(
        f"('{m.message_id}', 'many', 'user:eli', 'Pinger', 'request', 'Ping', '{m.content}', 1, 5, 1, current_timestamp())"
        for m in strangers
    )
    world.spark.sql(f"INSERT INTO {world.name} ({columns}) SELECT /*+ REPARTITION(3) */ * FROM VALUES {values}")
    world.spark.sql(f"OPTIMIZE {world.name}")
    last = message(Ping(n=9), conversation="many")
    result(writer.submit([last]))
    follower.catch_up()
    expected = [ids(many), ["stranger-1", "stranger-2", "stranger-3"], [last.message_id]]
    assert [ids(arrival.rows) for arrival in came] == expected
    everything = [one for commit in expected for one in commit]
    # After OPTIMIZE the rows stand in one file; row tracking still knows where each of them came from.
    latecomer = world.bus()
    for bus in (follower, writer, latecomer):
        assert ids(bus.conversation("many")) == ids(bus.state.open_for("Pinger")) == everything
    forgetful = world.bus(follow_only=True)
    assert ids(forgetful.conversation("many")) == everything
    found = world.table().scan(conversation="many")
    assert ids(valid_rows(row for _, commit in found for row in commit)) == everything


async def test_a_bus_that_slept_past_the_clean_up_leaps_to_the_living_log(world: SparkWorld) -> None:
    sleeper, writer = world.bus(poll_s=3600), world.bus()
    first, second = message(Ping(n=1)), message(Ping(n=2))
    result(writer.submit([first]))
    result(writer.submit([second]))
    from deltalake import DeltaTable

    newest = DeltaTable(str(world.path))
    newest.create_checkpoint()
    for version in range(newest.version()):
        (world.path / "_delta_log" / f"{version:020d}.json").unlink()
    came: list[Arrival] = []
    sleeper.subscribe(came.append)
    assert sleeper.catch_up() == newest.version()
    assert [ids(arrival.rows) for arrival in came] == [[first.message_id], [second.message_id]]
    third = message(Ping(n=3))
    result(writer.submit([third]))
    sleeper.catch_up()
    assert ids(sleeper.state.open_for("Pinger")) == ids([first, second, third])


# --- tables that are no log -------------------------------------------------------------------------------------------


async def test_a_table_that_is_no_log_is_refused(world: SparkWorld) -> None:
    with pytest.raises(LogMissing, match="nowhere"):
        SparkTable(world.spark, f"{world.database}.nowhere").check()
    with pytest.raises(LogError, match=r"write catalog\.schema\.table"):
        SparkTable(world.spark, "agent_messages; DROP TABLE x")
    bus = world.bus(poll_s=3600)
    result(bus.submit([message(Ping(n=1))]))
    world.spark.sql(f"ALTER TABLE {world.name} SET TBLPROPERTIES ('delta.appendOnly' = 'false')")
    with pytest.raises(ForeignLog, match=r"delta\.appendOnly"):
        world.table().check()
    world.spark.sql(f"DELETE FROM {world.name} WHERE kind = 'Ping'")
    with pytest.raises(ForeignLog, match="delete"):
        bus.catch_up()
