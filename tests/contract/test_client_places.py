"""The client on the buses there are: a table in an object store, and one in memory. On files see tests/unit/client."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest

from bus.aio import AsyncTailraceClient
from bus.client import TailraceClient, read
from bus.errors import TimedOut
from bus.keys import create_keys
from config.settings import Settings
from jobs.bootstrap import System
from schemas.tables import AGENT_MESSAGES
from tailrace.embedded import local
from tests.contract.emulators import use_s3
from tests.unit.client.conftest import Greeter, Greeting, Said, quiet_logs, running

__all__ = ["quiet_logs"]

ADA = Greeting(text="Ada")


async def test_everything_a_client_does_works_in_an_object_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_port: int
) -> None:
    url = f"{use_s3(monkeypatch, s3_port)}/{uuid.uuid4().hex}"
    system = System(Settings.load(home=str(tmp_path / "home"), tables=url))
    create_keys(system.home.keys, {"host-greeter": ["Greeter"], "user-eli": ["user:eli"], "user-ada": ["user:ada"]}, 0)
    system.log(AGENT_MESSAGES.name).create()

    def converse() -> None:
        with TailraceClient(system.home.root, user="eli", tables=url) as client:
            first = client.send("Greeter", ADA, message_id="order-1")
            many = client.send_many(
                [{"to": "Greeter", "kind": "Greeting", "content": {"text": str(n)}} for n in range(30)]
            )
            assert [row.seq for row in many] == list(range(30))
            client.publish(Said(text="Ada"))
        with TailraceClient(system.home.root, user="eli", tables=url) as client, running(system):
            assert client.send("Greeter", ADA, message_id="order-1").position == first.position
            assert read(client.wait(many[29], 30), Greeting).text == "Hello 29!"
            assert read(client.request("Greeter", ADA, timeout=30), Greeting).text == "Hello Ada!"
            with client.subscribe(Said, from_version=0) as events:
                assert read(events.next_event(30), Said).text == "Ada"

    await asyncio.to_thread(converse)
    async with AsyncTailraceClient(system.home.root, user="ada", tables=url) as client:
        assert read(await client.wait("order-1", 30), Greeting).text == "Hello Ada!"


def test_everything_a_client_does_works_in_memory() -> None:
    with local(Greeter()) as client:
        with client.subscribe(Said, from_version=0) as events:
            assert read(client.request("Greeter", ADA, timeout=10), Greeting).text == "Hello Ada!"
            assert read(events.next_event(10), Said).text == "Ada"
        first = client.send("Greeter", ADA, message_id="order-1")
        assert client.send("Greeter", ADA, message_id="order-1") == first
        assert read(client.wait("order-1", 10), Greeting).text == "Hello Ada!"
        many = client.send_many([{"to": "Greeter", "kind": "Greeting", "content": {"text": str(n)}} for n in range(30)])
        assert read(client.wait(many[29], 10), Greeting).text == "Hello 29!"
        with pytest.raises(TimedOut):
            client.wait("nothing", 0.01)
