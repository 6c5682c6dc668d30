"""Workers and a client over one bus in memory, in this process: for trying things and for tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bus.client import TailraceClient
from bus.logs import quiet_unless_configured
from bus.memory import MemoryBus, MemoryLog
from bus.tail import TailFeed
from bus.trust import TrustEverybody
from workers.runtime.base import Worker
from workers.runtime.clock import SystemClock
from workers.runtime.host import Host
from workers.runtime.middleware.retry import Retry
from workers.runtime.middleware.time_limit import time_limit


@contextmanager
def local(*workers: Worker, user: str = "me") -> Iterator[TailraceClient]:
    """Run these workers as a host would, without tables, keys or processes; yields a client that speaks for `user`."""
    quiet_unless_configured()
    log = MemoryLog()
    bus = MemoryBus(log)
    clock = SystemClock()
    host = Host(workers, bus, TailFeed(bus), TrustEverybody(), clock, [Retry(clock), time_limit])
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="tailrace-local", daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(host.start(), loop).result()
    client = TailraceClient(user=user, bus=MemoryBus(log))
    try:
        yield client
    finally:
        client.close()
        asyncio.run_coroutine_threadsafe(host.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
