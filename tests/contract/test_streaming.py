"""What only the Structured Streaming feed promises: the stream delivers, and a stream that dies loses nothing."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bus.base import Arrival
from bus.streaming.feed import StreamingFeed
from schemas.envelope import Message
from tests.contract.harness import Ping, Pinger, StreamingWorld, eventually, message, result
from workers.runtime.base import Context, Outgoing, Received, Worker, request

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
PATIENCE = 60.0


@pytest.fixture
async def world(tmp_path: Path, spark: Any) -> AsyncIterator[StreamingWorld]:
    made = StreamingWorld(tmp_path, spark)
    yield made
    await made.close()


class StreamOnly(StreamingFeed):
    """The tail's delivery switched off: it decides and orders, and hands nothing over, not even the host's own rows."""

    def _arrived(self, arrival: Arrival) -> None:
        super()._arrived(replace(arrival, own=False))


async def send(world: StreamingWorld, count: int, **envelope: Any) -> list[Message]:
    outside = world.bus()
    sent = [message(Ping(n=n), **envelope) for n in range(count)]
    for one in sent:
        await asyncio.to_thread(lambda one=one: result(outside.submit([one])))
    return sent


async def test_every_message_from_outside_comes_by_the_stream(world: StreamingWorld) -> None:
    worker = Pinger()
    await world.host(
        worker, feed=lambda bus: StreamOnly(bus, world.table, world.folder / "stream-only", lambda: world._spark)
    )
    feed: Any = world.feeds[-1]
    await send(world, 25)
    await eventually(lambda: len(worker.ended) == 25, PATIENCE)
    assert feed.handed_over == 0
    assert feed.streamed >= 25
    await eventually(lambda: feed.input_rows >= 25, PATIENCE)


async def test_the_tail_beside_the_stream_hands_over_nothing_from_outside(world: StreamingWorld) -> None:
    worker = Pinger()
    await world.host(worker)
    feed: Any = world.feeds[-1]
    await send(world, 10)
    await eventually(lambda: len(worker.ended) == 10, PATIENCE)
    assert feed.handed_over == 0
    assert feed.streamed >= 10


class Chain(Worker):
    """Answers Ping n with Ping n-1 to itself, down to 0."""

    handles = (Ping,)

    def __init__(self) -> None:
        self.ended: list[int] = []

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        assert isinstance(message.payload, Ping)
        n = message.payload.n
        self.ended.append(n)
        return [request("Chain", Ping(n=n - 1))] if n else []


async def test_the_hosts_own_messages_are_handed_over_at_once(world: StreamingWorld) -> None:
    worker = Chain()
    await world.host(worker)
    feed: Any = world.feeds[-1]
    result(world.bus().submit([message(Ping(n=20), to="Chain")]))
    await eventually(lambda: worker.ended == list(range(20, -1, -1)), PATIENCE)
    assert feed.handed_over == 20


async def test_an_own_message_waits_for_an_earlier_one_that_the_stream_still_has(world: StreamingWorld) -> None:
    worker = Pinger()
    host = await world.host(worker)
    feed: Any = world.feeds[-1]
    for round_ in range(3):
        conversation = f"c{round_}"
        first, second = message(Ping(n=1), conversation=conversation), message(Ping(n=2), conversation=conversation)
        await asyncio.to_thread(lambda first=first: result(world.bus().submit([first])))
        host._bus.catch_up()
        before = feed.handed_over
        await asyncio.to_thread(lambda second=second: result(host._bus.submit([second])))
        assert feed.handed_over == before

    def told(conversation: str) -> list[int]:
        rows = host._bus.conversation(conversation)
        asked = {m.message_id: json.loads(m.content)["n"] for m in rows if m.kind == "Ping"}
        return [asked[m.causation_id or ""] for m in rows if m.kind == "Pong"]

    # A handler ends before its answer is in the log.
    await eventually(lambda: all(len(told(f"c{round_}")) == 2 for round_ in range(3)), PATIENCE)
    assert [told(f"c{round_}") for round_ in range(3)] == [[1, 2]] * 3


async def test_a_copy_that_the_stream_brings_later_is_dropped(world: StreamingWorld) -> None:
    worker = Chain()
    await world.host(worker)
    feed: Any = world.feeds[-1]
    result(world.bus().submit([message(Ping(n=5), to="Chain")]))
    await eventually(lambda: feed.streamed >= 6, PATIENCE)
    assert worker.ended == [5, 4, 3, 2, 1, 0]
    assert len(world.receipts("Chain")) == 6


async def test_a_stream_that_was_stopped_begins_a_new_generation_and_loses_nothing(world: StreamingWorld) -> None:
    worker = Pinger()
    await world.host(worker)
    feed: Any = world.feeds[-1]
    await send(world, 5)
    await eventually(lambda: len(worker.ended) == 5, PATIENCE)
    for generation in (2, 3):
        query = feed._query
        sending = asyncio.create_task(send(world, 10))
        await asyncio.to_thread(query.stop)
        await sending
        await eventually(lambda query=query: feed._query is not query, PATIENCE)
        assert feed._generation == generation
        await eventually(lambda generation=generation: len(worker.ended) == 5 + 10 * (generation - 1), PATIENCE)
    await eventually(lambda: len(world.receipts("Pinger")) == 25, PATIENCE)


async def test_a_checkpoint_that_was_deleted_begins_a_new_generation_and_loses_nothing(world: StreamingWorld) -> None:
    worker = Pinger()
    await world.host(worker)
    feed: Any = world.feeds[-1]
    await send(world, 3)
    await eventually(lambda: len(worker.ended) == 3, PATIENCE)
    await eventually(lambda: feed.input_rows >= 3, PATIENCE)
    shutil.rmtree(feed._checkpoints)
    await send(world, 5)
    await eventually(lambda: len(worker.ended) == 8, PATIENCE)
    await send(world, 5)
    await eventually(lambda: len(world.receipts("Pinger")) == 13, PATIENCE)


async def test_generations_change_under_commits_without_anybody_waiting_for_ever(world: StreamingWorld) -> None:
    worker = Chain()
    await world.host(worker)
    feed: Any = world.feeds[-1]
    result(world.bus().submit([message(Ping(n=150), to="Chain")]))
    for _ in range(3):
        await eventually(lambda: worker.ended, PATIENCE)
        query = feed._query
        await asyncio.to_thread(query.stop)
        await eventually(lambda query=query: feed._query is not query, PATIENCE)
    await eventually(lambda: worker.ended == list(range(150, -1, -1)), PATIENCE)


async def test_what_is_open_at_the_start_is_handed_over_first(world: StreamingWorld) -> None:
    sent = await send(world, 12, conversation="same")
    worker = Pinger()
    await world.host(worker)
    await eventually(lambda: worker.ended == list(range(12)), PATIENCE)
    await eventually(lambda: len(world.receipts("Pinger")) == len(sent), PATIENCE)
