"""The tail feed: delivers what its bus absorbs, in the moment it absorbs it. No JVM; any bus will do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bus.base import Arrival, Bus, Deliver
from schemas.envelope import Message


class TailFeed:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._leave: Callable[[], None] = lambda: None

    @property
    def position(self) -> int:
        return self._bus.state.version

    def start(self, agents: Sequence[str], deliver: Deliver) -> None:
        def arrived(arrival: Arrival) -> None:
            if arrival.rows:
                deliver(arrival.rows)

        # Subscribe first: what arrives in between is delivered twice, which an inbox drops, rather than never.
        self._leave = self._bus.subscribe(arrived)
        if waiting := open_messages(self._bus, agents):
            deliver(waiting)

    def stop(self) -> None:
        self._leave()


def open_messages(bus: Bus, agents: Sequence[str]) -> list[Message]:
    """What waits for any of these agents, each message once, in log order."""
    found = {m.message_id: m for agent in agents for m in bus.state.open_for(agent)}
    return sorted(found.values(), key=lambda m: m.position)
