from __future__ import annotations

import asyncio

import pytest

from bus.aio import AsyncTailraceClient
from bus.client import read
from bus.errors import Closed, ContentTooLarge, TimedOut
from tests.unit.client.conftest import Greeting, Place, Said, running

ADA = Greeting(text="Ada")


async def test_requests_by_the_hundred_share_one_loop(live: Place) -> None:
    """More at once than there are threads to wait in."""
    async with AsyncTailraceClient(live.home, user="eli") as client:
        asked = [client.request("Greeter", Greeting(text=str(n)), timeout=60) for n in range(300)]
        answers = await asyncio.gather(*asked)
    assert [read(answer, Greeting).text for answer in answers] == [f"Hello {n}!" for n in range(300)]


async def test_many_and_again(place: Place) -> None:
    async with AsyncTailraceClient(place.home, user="eli") as client:
        rows = [{"to": "Greeter", "payload": ADA, "message_id": f"order-{n}"} for n in range(3)]
        first = await client.send_many(rows)
        assert await client.send_many(rows) == first
        assert await client.send("Greeter", ADA, message_id="order-2") == first[2]
        with pytest.raises(ContentTooLarge):
            await client.send("Greeter", Greeting(text="x" * (1 << 20)))
    assert len(place.rows()) == 3


async def test_a_cancelled_request_stops_waiting_and_stays_in_the_log(place: Place) -> None:
    async with AsyncTailraceClient(place.home, user="eli") as client:
        task = asyncio.create_task(client.request("Greeter", ADA, timeout=60, correlation_id="c-1"))
        while not place.rows():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with running(place.system):
            assert read(await client.wait("c-1", 20), Greeting).text == "Hello Ada!"


async def test_a_send_cancelled_on_its_way_is_written_once(place: Place) -> None:
    """Whoever is cancelled does not know whether it was written: with an id of its own it can ask again."""
    async with AsyncTailraceClient(place.home, user="eli") as client:
        for n in range(30):
            task = asyncio.create_task(client.send("Greeter", ADA, message_id=f"order-{n}"))
            for _ in range(n % 5):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            sent = await client.send("Greeter", ADA, message_id=f"order-{n}")
            assert sent.log_version > 0
    counted = {row["message_id"] for row in place.rows()}
    assert counted == {f"order-{n}" for n in range(30)}


async def test_events_come_by_async_for_and_a_cancelled_taker_loses_none(place: Place) -> None:
    async with AsyncTailraceClient(place.home, user="eli") as client:
        heard: list[str] = []
        async with client.subscribe(Said, from_version=0) as events:
            for n in range(40):
                await client.publish(Said(text=str(n)))
                taker = asyncio.create_task(events.next_event(10))
                for _ in range(n % 4):
                    await asyncio.sleep(0.001)
                taker.cancel()
                done = (await asyncio.gather(taker, return_exceptions=True))[0]
                if not isinstance(done, BaseException):
                    heard.append(read(done, Said).text)
            while len(heard) < 40:
                heard.append(read(await events.next_event(10), Said).text)
            with pytest.raises(TimedOut, match="no Said within"):
                await events.next_event(0.05)
    assert heard == [str(n) for n in range(40)]


async def test_iteration_ends_when_the_client_is_closed(place: Place) -> None:
    async with AsyncTailraceClient(place.home, user="eli") as client:
        events = client.subscribe("Said")
        await client.publish(Said(text="Ada"))

        async def take() -> list[str]:
            return [read(event, Said).text async for event in events]

        task = asyncio.create_task(take())
        await asyncio.sleep(0.05)
        await client.close()
        assert await task == ["Ada"]
        with pytest.raises(Closed):
            await client.send("Greeter", ADA)


async def test_an_answer_in_vain_and_one_from_before(place: Place) -> None:
    async with AsyncTailraceClient(place.home, user="eli") as client:
        with pytest.raises(TimedOut, match="no response from Greeter within"):
            await client.request("Greeter", ADA, timeout=0.05, message_id="order-1")
        with pytest.raises(TimedOut, match="neither a message nor a conversation"):
            await client.wait("nothing", 0.05)
        with running(place.system):
            answer = await client.wait("order-1", 20)
            assert await client.request("Greeter", ADA, timeout=20, message_id="order-1") == answer
        rows = await client.conversation(answer.correlation_id)
        assert [row.kind for row in rows] == ["Greeting", "Greeting", "Said"]


async def test_unopened_it_says_how_to_open_it(place: Place) -> None:
    with pytest.raises(Closed, match="async with"):
        await AsyncTailraceClient(place.home, user="eli").send("Greeter", ADA)
