"""The handling side of Tailrace when it is measured: a host, as `tailrace worker` runs it, with one agent that answers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from jobs import logging
from jobs.agents import Agent
from jobs.bench.home import BenchSystem
from jobs.bench.work import TEXT, Reporter
from jobs.run_worker import collect_less_often
from schemas.payloads import Payload
from workers.runtime.base import Context, Outgoing, Received, Worker, reply


class Ping(Payload):
    number: int = 0
    text: str = TEXT
    answer: bool = True


class Pong(Payload):
    number: int


class Echo(Worker):
    """Says that it has begun, then answers."""

    handles = (Ping,)

    def __init__(self, begun: Callable[[int], None] = lambda _: None) -> None:
        self._begun = begun

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        ping = message.payload
        assert isinstance(ping, Ping)
        self._begun(ping.number)
        return [reply(message, Pong(number=ping.number))] if ping.answer else []


def agent(begun: Callable[[int], None] = lambda _: None) -> Agent:
    return Agent("Echo", "echo", "own-Echo", lambda _: Echo(begun))


async def serve(system: BenchSystem, engine: str, begun: Callable[[int], None]) -> None:
    """Until standard input is closed."""
    host = await asyncio.to_thread(system.host, [agent(begun)], engine)
    await host.start()
    collect_less_often()
    await asyncio.to_thread(sys.stdin.read)
    await host.stop()


if __name__ == "__main__":
    logging.configure("WARNING")
    place, kind, how_durable, signatures, pipe = sys.argv[1:]
    home = BenchSystem(Path(place), "disk" if how_durable == "disk" else "os", signatures == "signed")
    asyncio.run(serve(home, kind, Reporter(pipe)))
