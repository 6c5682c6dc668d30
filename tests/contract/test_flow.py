"""A producer that is told to slow down by the host that does not keep up: over a real log, and a real folder."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from bus.client import TailraceClient
from bus.errors import Busy
from bus.flow import Flow, FlowGauge, note_path
from tests.contract.harness import Ping, Pinger, eventually


async def test_who_floods_an_agent_is_told_and_goes_on_when_it_has_caught_up(log_world: Any) -> None:
    gate, worker = asyncio.Event(), Pinger()
    worker.gate = gate
    host = await log_world.host(worker)
    store = log_world.table.store
    gauge = FlowGauge(host._bus, store, ["Pinger"], high=10)
    gauge.start()
    seconds = itertools.count()  # a second passes whenever somebody looks, so that nobody waits for one
    flooding = TailraceClient(
        user="eli", bus=log_world.bus(follow_only=True), advice=Flow(store, lambda: next(seconds)), when_busy="raise"
    )

    def flood() -> int:
        for n in range(10_000):
            flooding.send("Pinger", Ping(n=n))
        raise AssertionError("nobody was told to slow down")

    with pytest.raises(Busy):
        await asyncio.to_thread(flood)
    await asyncio.to_thread(flooding.send, "Pinger", Ping(n=-1), when_busy="ignore")
    gate.set()
    await eventually(lambda: not store.exists(note_path("Pinger")))
    await asyncio.to_thread(flooding.send, "Pinger", Ping(n=-2))
    await eventually(lambda: -2 in worker.ended)
    gauge.stop()
