"""One host process: builds its agents, runs until told to stop, drains, and leaves. `python -m jobs.run_worker rag code`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Sequence

import structlog

from config.settings import Settings
from jobs import logging
from jobs.agents import Agent, find
from jobs.bootstrap import System
from jobs.liveness import Presence

log = structlog.get_logger(__name__)


async def serve(system: System, agents: Sequence[Agent], engine: str, warm: bool = True) -> None:
    """Run these agents until SIGTERM or SIGINT. Raises AlreadyRunning, or HostLost when the log is spoilt."""
    with contextlib.ExitStack() as presences:
        marks = [
            presences.enter_context(Presence(system.home, one.name, one.engine or engine, single=one.single))
            for one in agents
        ]
        host = await asyncio.to_thread(system.host, agents, engine)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await host.start()
        if warm:
            for instance in host.instances.values():
                await instance.worker.warm()
        for mark in marks:
            mark.ready()
        collect_less_often()
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([stopped, host.lost], return_when=asyncio.FIRST_COMPLETED)
        lost = None if stopped.done() else host.lost.result()
        stopped.cancel()
        await host.stop(patience_s=20.0 if lost is None else 1.0)
        if lost is not None:
            raise HostLost(f"the log cannot be followed any more: {lost}") from lost


def collect_less_often() -> None:
    """What a host holds is what is open: looking for cycles in all of it, again and again, took a fifth of its time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


class HostLost(RuntimeError):
    """The host ended itself: it could not see what others commit. What waits is in the log, for the next start."""


def main(arguments: Sequence[str] | None = None) -> None:
    words = list(sys.argv[1:] if arguments is None else arguments)
    settings = Settings.load()
    system = System(settings)
    logging.configure(settings.log_level, json_lines=True, redactor=system.redactor)
    agents = [find(name) for name in words if name != "--cold"]
    asyncio.run(serve(system, agents, settings.engine, warm="--cold" not in words))


if __name__ == "__main__":
    main()
