"""An instance of Pinger in a process of its own, with a short lease: `python -m tests.contract.instance_host FOLDER`.

It says `ready`, then one line for each message it begins: what several instances did together is counted from outside.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from bus.log.bus import LogBus
from bus.log.table import DeltaLog
from bus.tail import TailFeed
from bus.trust import TrustEverybody
from schemas.tables import AGENT_MESSAGES
from tests.contract.harness import Ping, Pinger
from workers.runtime.base import Context, Outgoing, Received
from workers.runtime.clock import SystemClock
from workers.runtime.host import Host
from workers.runtime.leases import Timing

#: Short, so that a test need not wait; a machine under load may well miss a renewal, which must do no harm.
LEASE_S = 0.5
#: Seconds a message takes: enough for several to be under way whenever a process is stopped.
HANDLING_S = 0.005


class Told(Pinger):
    name = "Pinger"

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        assert isinstance(message.payload, Ping)
        os.write(1, f"{message.payload.n}\n".encode())
        await asyncio.sleep(HANDLING_S)
        return await super().handle(message, context)


async def main(folder: Path) -> None:
    bus = LogBus(DeltaLog(folder / "agent_messages", AGENT_MESSAGES))
    timing = Timing(LEASE_S)
    host = Host([Told()], bus, TailFeed(bus), TrustEverybody(), SystemClock(), [], timing=timing)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await host.start()
    os.write(1, b"ready\n")
    await stop.wait()
    await host.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
