"""The other process of a hop: a host with one agent that answers with the time it was called."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from bus.log.bus import LogBus
from bus.log.table import DeltaLog
from bus.tail import TailFeed
from bus.trust import TrustEverybody
from jobs import logging
from schemas.payloads import Payload
from schemas.tables import AGENT_MESSAGES
from workers.runtime.base import Context, Outgoing, Received, Worker, reply
from workers.runtime.clock import SystemClock
from workers.runtime.host import Host


class Ping(Payload):
    text: str = "x" * 200


class Pong(Payload):
    received_ns: int


class Echo(Worker):
    handles = (Ping,)

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        return [reply(message, Pong(received_ns=time.time_ns()))]


async def serve(path: Path, engine: str) -> None:
    """Until standard input is closed."""
    logging.configure("WARNING")
    bus = LogBus(DeltaLog(path, AGENT_MESSAGES))
    if engine == "tail":
        feed = TailFeed(bus)
    else:
        from bus.streaming.feed import StreamingFeed
        from jobs.bootstrap import streaming_session

        feed = StreamingFeed(bus, bus.table, path.parent / f"{path.name}-checkpoints", streaming_session)
    host = Host([Echo()], bus, feed, TrustEverybody(), SystemClock(), [])
    await host.start()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await host.stop()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2]))
