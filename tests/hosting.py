"""Hosts of the product inside a test's own process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from jobs.agents import AGENTS, Agent
from jobs.bootstrap import System
from jobs.liveness import Presence
from workers.runtime.base import Worker


@contextmanager
def hosted(system: System, *made: Worker) -> Iterator[None]:
    """One host for all of them, in a thread."""
    by_name = {worker.name: worker for worker in made}
    agents = [
        Agent(a.name, a.short, "main", lambda _, n=a.name: by_name[n], "tail") for a in AGENTS if a.name in by_name
    ]
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    with ExitStack() as presences:
        for agent in agents:
            presences.enter_context(Presence(system.home, agent.name, "tail")).ready()
        host = system.host(agents, "tail")
        asyncio.run_coroutine_threadsafe(host.start(), loop).result(30)
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(host.stop(), loop).result(30)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
