"""Producers are told to slow down by the note that a host writes beside the table."""

from __future__ import annotations

import asyncio
import json

import pytest

from bus.aio import AsyncTailraceClient
from bus.errors import Busy
from bus.flow import note_path
from tests.unit.client.conftest import Greeting, Place

ADA = Greeting(text="Ada")


def note(place: Place, agent: str = "Greeter") -> None:
    said = {"agent": agent, "open": 7000, "limit": 5000, "slow_down": True, "beat": 1}
    place.system.log("agent_messages").store.replace(note_path(agent), json.dumps(said).encode())


def take_away(place: Place, agent: str = "Greeter") -> None:
    place.system.log("agent_messages").store.delete(note_path(agent))


def test_who_will_not_wait_is_told_what_to_do(place: Place) -> None:
    note(place)
    client = place.client(when_busy="raise")
    with pytest.raises(Busy, match=r"Greeter .* 7,000 .* 5,000; nothing was sent.*when_busy=\"ignore\""):
        client.send("Greeter", ADA)
    with pytest.raises(Busy):
        client.send_many([("Other", ADA), ("Greeter", ADA)])
    assert place.rows() == []
    client.send("Greeter", ADA, when_busy="ignore")
    client.send("Other", ADA)
    assert len(place.rows()) == 2


def test_who_waits_sends_when_there_is_room(place: Place) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            take_away(place)
            look_again(client)

    client = place.client(sleep=sleep)
    note(place)
    client.send("Greeter", ADA)
    assert len(pauses) == 3
    assert len(place.rows()) == 1


def look_again(client: object) -> None:
    """The advice is looked at again at once: no test waits for its tenth of a second."""
    client._session._pressure._advice._seen.clear()


def test_patience_ends(place: Place) -> None:
    pauses: list[float] = []
    client = place.client(sleep=pauses.append, patience=2.0)
    note(place)
    with pytest.raises(Busy):
        client.request("Greeter", ADA, timeout=5)
    assert sum(pauses) == pytest.approx(2.0, abs=0.11)
    assert place.rows() == []


async def test_a_loop_goes_on_while_one_task_waits(place: Place) -> None:
    note(place)
    async with AsyncTailraceClient(place.home, user="eli") as client:
        slow = asyncio.create_task(client.send("Greeter", ADA))
        await client.send("Other", ADA)
        await asyncio.sleep(0.05)
        assert not slow.done()
        take_away(place)
        await slow
        note(place)
        await asyncio.sleep(0.11)
        with pytest.raises(Busy):
            await client.send("Greeter", ADA, when_busy="raise")
    assert [row["to_agent"] for row in place.rows()] == ["Other", "Greeter"]
