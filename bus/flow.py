"""Producers told to slow down: hosts note in the table's folder that too much is open for an agent, producers read it.

Advice only. A note that is missing, stale or cannot be read tells nobody to wait, and nothing in the log depends on one.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

import structlog

from bus.base import Arrival, Bus
from bus.log.store import Store

log = structlog.get_logger(__name__)

#: Open messages of one agent from which on its producers are asked to slow down.
HIGH = 5_000
#: Seconds between two looks of a producer, and of a host, at most so often.
LOOK_EVERY_S = 0.1
#: Seconds after which a host says again that it has not caught up yet.
BEAT_S = 5.0
#: Seconds after which a note that nobody repeated is taken for one of a host that died.
FORGOTTEN_S = 3 * BEAT_S


@dataclass(frozen=True)
class Slow:
    """An agent has more open messages than its hosts keep up with."""

    agent: str
    open: int
    limit: int


class Flow:
    """The producers' side. Reads a note at most every 100 ms; safe for several threads."""

    def __init__(self, store: Store, now: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._now = now
        #: agent -> when it was looked at, the note's bytes, since when they are the same
        self._seen: dict[str, tuple[float, bytes | None, float]] = {}

    def slow_down(self, agent: str) -> Slow | None:
        """Whether a producer should wait before it sends more to this agent."""
        now = self._now()
        looked, note, since = self._seen.get(agent, (-math.inf, None, now))
        if now - looked >= LOOK_EVERY_S:
            found = self._read(agent)
            since = since if found == note else now
            note = found
            self._seen[agent] = (now, note, since)
        # By our own clock, since two machines' clocks agree on nothing: hosts change the note with every beat.
        return None if note is None or now - since > FORGOTTEN_S else _slow(note, agent)

    def _read(self, agent: str) -> bytes | None:
        try:
            return self._store.get(note_path(agent))
        except OSError:
            return None


class FlowGauge:
    """The hosts' side: watches how much is open for its agents, and notes it while that is too much.

    A note is written at `high` open messages, and taken away when only `low` are left: in between it stays as it is, so
    that it does not flicker.
    """

    def __init__(
        self,
        bus: Bus,
        store: Store,
        agents: Sequence[str],
        high: int = HIGH,
        low: int | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._store = store
        self._agents = agents
        self._high = high
        self._low = high // 2 if low is None else low
        self._now = now
        #: agent -> how often its note was written, and when last
        self._noted: dict[str, tuple[int, float]] = {}
        self._moved = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="flow-gauge", daemon=True)
        self._leave: Callable[[], None] = lambda: None

    def start(self) -> None:
        # Whoever ran these agents before us may have died with a note in place: then it is ours to keep or take away.
        for agent in self._agents:
            if self._try(self._store.exists, note_path(agent)):
                self._noted[agent] = (0, -math.inf)
        self._leave = self._bus.subscribe(self._arrived)
        self._moved.set()
        self._thread.start()

    def stop(self) -> None:
        """Take our notes away: whoever else runs the agent repeats its own."""
        self._leave()
        self._stopping.set()
        self._moved.set()
        if self._thread.is_alive():
            self._thread.join()
        for agent in self._noted:
            self._try(self._store.delete, note_path(agent))

    def look(self) -> None:
        """Write and take away what is to be written and taken away now."""
        waiting = self._bus.state.waiting()
        for agent in self._agents:
            count = waiting.get(agent, 0)
            noted = self._noted.get(agent)
            if count >= self._high or (noted and count > self._low):
                beat, written = noted or (0, -math.inf)
                if self._now() - written < BEAT_S:
                    continue
                self._noted[agent] = (beat + 1, self._now())
                note = asdict(Slow(agent, count, self._high)) | {"slow_down": True, "beat": beat + 1}
                self._try(self._store.replace, note_path(agent), json.dumps(note).encode())
            elif noted:
                del self._noted[agent]
                self._try(self._store.delete, note_path(agent))

    def _arrived(self, _: Arrival) -> None:
        if not self._moved.is_set():
            self._moved.set()

    def _watch(self) -> None:
        while not self._stopping.is_set():
            self._moved.wait(BEAT_S if self._noted else None)
            self._moved.clear()
            self.look()
            self._stopping.wait(LOOK_EVERY_S)

    def _try(self, step: Callable[..., Any], *what: Any) -> Any:
        try:
            return step(*what)
        except OSError as error:
            log.warning("flow.not_noted", path=what[0], error=str(error))
            return None


def note_path(agent: str) -> str:
    """Hidden from every Delta reader by its leading underscore."""
    return f"_tailrace/flow/{quote(agent, safe='')}.json"


def _slow(note: bytes, agent: str) -> Slow | None:
    try:
        said = json.loads(note)
        return Slow(agent, int(said["open"]), int(said["limit"])) if said["slow_down"] is True else None
    except (ValueError, KeyError, TypeError):
        return None
