"""The bus in memory: the same decisions and the same fold, no files. For tests, examples and one-process use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from bus.base import Arrival, Listener, enlist, tell, too_large
from bus.errors import Closed, Superseded
from bus.fold import State, decision_key
from bus.log.seal import NoSeal, Seal
from schemas.envelope import Message


class MemoryLog:
    """What several memory buses share, as several processes share a table."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.commits: list[tuple[Message, ...]] = []
        self.buses: list[MemoryBus] = []


class MemoryBus:
    """A bus over a MemoryLog."""

    def __init__(
        self, memory: MemoryLog | None = None, *, seal: Seal | None = None, state: State | None = None
    ) -> None:
        self.log = memory or MemoryLog()
        self.state = state or State()
        self._seal = seal or NoSeal()
        self.on_failure: Callable[[BaseException], None] = lambda _: None
        self._listeners: list[Listener] = []
        self._closed = False
        with self.log.lock:
            self.log.buses.append(self)
            for commit in self.log.commits:
                self.state.absorb(commit)

    def submit(self, messages: Sequence[Message]) -> Future[int]:
        done: Future[int] = Future()
        with self.log.lock:
            error = self._refusal(messages)
            if error is not None:
                done.set_exception(error)
                return done
            version = len(self.log.commits)
            sealed = self._seal.apply(messages)
            self._seal.commit()
            commit = tuple(m.model_copy(update={"log_version": version, "seq": i}) for i, m in enumerate(sealed))
            self.log.commits.append(commit)
            for bus in list(self.log.buses):
                bus._fold(version, commit, own=bus is self)
            done.set_result(version)
        return done

    def _refusal(self, messages: Sequence[Message]) -> Exception | None:
        if self._closed:
            return Closed("the bus is closed")
        if (error := too_large(messages)) is not None:
            return error
        keys: set[str] = set()
        for message in messages:
            key = decision_key(message)
            if key is not None and (self.state.decided(message) or key in keys):
                return Superseded(key)
            if key is not None:
                keys.add(key)
        return None

    def _fold(self, version: int, commit: Sequence[Message], own: bool) -> None:
        valid = self.state.absorb(commit)
        self.state.version = version
        tell(self._listeners, Arrival(version, tuple(valid), own))

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        return enlist(self._listeners, listener, self.log.lock)

    def conversation(self, correlation_id: str) -> list[Message]:
        with self.log.lock:
            return self.state.conversation(correlation_id) or []

    def catch_up(self) -> int:
        return self.state.version

    def close(self) -> None:
        with self.log.lock:
            self._closed = True
            if self in self.log.buses:
                self.log.buses.remove(self)
