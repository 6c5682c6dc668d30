"""A real home with keys, tables and agents in a thread, as another service would find it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import structlog

from bus.client import TailraceClient
from bus.keys import create_keys
from config.settings import Settings
from jobs.agents import Agent
from jobs.bootstrap import System
from schemas.payloads import Payload
from schemas.tables import AGENT_MESSAGES, TABLES
from workers.runtime.base import Context, Outgoing, Received, Worker, event, reply


class Greeting(Payload):
    text: str


class Said(Payload):
    """An event: what was greeted."""

    text: str


class Greeter(Worker):
    """Greets whoever asks, and tells everybody; `Boom` it cannot greet."""

    handles = (Greeting,)
    max_attempts: ClassVar[int] = 1

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        assert isinstance(message.payload, Greeting)
        if message.payload.text == "Boom":
            raise RuntimeError("it cannot be greeted")
        return [reply(message, Greeting(text=f"Hello {message.payload.text}!")), event(Said(text=message.payload.text))]


def make_home(root: Path) -> System:
    system = System(Settings.load(home=str(root)))
    holders = {"host-greeter": ["Greeter"], "user-eli": ["user:eli"], "user-ada": ["user:ada"]}
    create_keys(system.home.keys, holders, 0)
    for name in TABLES:
        system.log(name).create()
    return system


@contextmanager
def running(system: System, *agents: Agent) -> Iterator[None]:
    """A host with these agents (the greeter, unless told which) in a thread of its own."""
    chosen = agents or (Agent("Greeter", "greeter", "greeter", lambda _: Greeter(), "tail"),)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        host = system.host(chosen, "tail")
        asyncio.run_coroutine_threadsafe(host.start(), loop).result(30)
        yield
        asyncio.run_coroutine_threadsafe(host.stop(), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@dataclass
class Place:
    """A home, and clients that are closed at the end."""

    system: System
    clients: ExitStack

    @property
    def home(self) -> Path:
        return self.system.home.root

    def client(self, user: str = "eli", **how: object) -> TailraceClient:
        return self.clients.enter_context(TailraceClient(self.home, user=user, **how))

    def rows(self) -> list[dict[str, object]]:
        """Every row of the log, in log order, by deltalake alone."""
        from deltalake import DeltaTable

        rows = DeltaTable(str(self.system.home.table(AGENT_MESSAGES.name))).to_pyarrow_table().to_pylist()
        return sorted(rows, key=lambda row: (row["log_version"], row["seq"]))


@pytest.fixture(autouse=True)
def quiet_logs() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    yield
    structlog.reset_defaults()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as clients:
        yield Place(make_home(tmp_path / "home"), clients)


@pytest.fixture
def live(place: Place) -> Iterator[Place]:
    with running(place.system):
        yield place
