"""A host that is its own murderer: `python -m tests.contract.crash_host PLACE POINT AFTER`.

At POINT, the AFTER-th time it comes by, the process kills itself with SIGKILL: nothing is flushed, nothing is told.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from bus.fold import State
from bus.log.bus import LogBus
from bus.log.store import Location, Store, within
from bus.log.table import DeltaLog
from bus.projections.projector import Projection, Projector
from bus.projections.tables import event_row
from bus.tail import TailFeed
from bus.trust import TrustEverybody
from schemas.tables import AGENT_EVENTS, AGENT_MESSAGES
from tests.contract.harness import Pinger
from workers.runtime.base import Context, Outgoing, Received
from workers.runtime.clock import SystemClock
from workers.runtime.host import Host

#: Where it can die: around the log's files, in the handler, around the projector's commit.
POINTS = ("entry_before", "entry_after", "handled", "projected_before", "projected_after")


class Death:
    """Comes at one point, the n-th time it is passed."""

    def __init__(self, point: str, after: int) -> None:
        self._point, self._left = point, after

    def passes(self, point: str) -> None:
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class MortalStore:
    """`before`: the data file is there and the entry is not. `after`: the entry is there, and nobody was told."""

    def __init__(self, real: Store, death: Death, before: str, after: str) -> None:
        self._real = real
        self._death, self._before, self._after = death, before, after

    def put_if_absent(self, path: str, data: bytes) -> bool:
        self._death.passes(self._before)
        won = self._real.put_if_absent(path, data)
        self._death.passes(self._after)
        return won

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class MortalPinger(Pinger):
    name = "Pinger"

    def __init__(self, death: Death) -> None:
        super().__init__(rings=True)
        self._death = death

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        outputs = await super().handle(message, context)
        self._death.passes("handled")
        return outputs


def source(place: Location) -> DeltaLog:
    return DeltaLog(within(place, "agent_messages"), AGENT_MESSAGES)


def events(place: Location) -> DeltaLog:
    return DeltaLog(within(place, "agent_events"), AGENT_EVENTS)


async def main(place: Location, death: Death) -> None:
    messages, projected = source(place), events(place)
    messages.store = MortalStore(messages.store, death, "entry_before", "entry_after")
    projected.store = MortalStore(projected.store, death, "projected_before", "projected_after")
    bus = LogBus(messages, state=State())
    projector = Projector(bus, messages, [Projection(projected, event_row)], pause_s=0.001)
    host = Host([MortalPinger(death)], bus, TailFeed(bus), TrustEverybody(), SystemClock(), [], companions=[projector])
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await host.start()
    os.write(1, b"ready\n")
    await stop.wait()
    await host.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Death(sys.argv[2], int(sys.argv[3]))))
