"""A log over days, for tests of what is read of it once days have left for an archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from jobs.replay.history import History
from jobs.replay.request import ReplayRequest
from tests.unit.bus.logs import DatedLog, append, message
from workers.runtime.clock import micros

Handled = list[tuple[str, bool]]


class Story(DatedLog):
    """A log over days, and what a replay finds in it: (message, whether it came from the archive)."""

    def ask(self, name: str, on: int, conversation: str = "", **envelope: Any) -> None:
        self.day = on
        told = {"correlation_id": conversation or f"c-{name}", "timestamp": micros(self.now())}
        append(self.log, message(name, **told | envelope))

    def answer(self, name: str, on: int, conversation: str = "") -> None:
        self.day = on
        told = {
            "from_agent": "A",
            "correlation_id": conversation or f"c-{name}",
            "causation_id": name,
            "handling_id": f"r-{name}",
            "timestamp": micros(self.now()),
        }
        append(
            self.log,
            message(f"r-{name}", message_type="receipt", kind="Receipt", to_agent="*", **told),
            message(f"a-{name}", message_type="response", kind="Pong", to_agent="user:eli", **told),
        )

    def handled(self, name: str, on: int) -> None:
        self.ask(name, on)
        self.answer(name, on)

    def retain(self, on: int, days: int = 2, upto: int | None = None) -> None:
        self.day = on
        self.upkeep.retain(days, self.archive, upto)

    @property
    def place(self) -> Path:
        return self.archive / "agent_messages"

    def archived(self) -> list[str]:
        return DeltaTable(str(self.place)).to_pyarrow_table().column("message_id").to_pylist()

    def history(self, agents: frozenset[str] | None = None, **request: str) -> History:
        return History(self.log, lambda _: True, ReplayRequest(**request), micros(self.now()), agents)

    def found(self, **request: str) -> Handled:
        history = self.history(**request)
        found = [(one.message.message_id, one.from_archive) for one in history.recordings()]
        assert history.total == len(found)
        return found
