"""Asking and waiting: follows one conversation until it is answered, or time or a person is lacking."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from apps.cli.exits import TIMED_OUT, CommandError
from apps.cli.outcome import Outcome, outcome_of
from apps.cli.timeline import Timeline
from schemas.payloads import Ask

if TYPE_CHECKING:
    from bus.client import Arrivals, TailraceClient
    from schemas.envelope import Message
    from workers.governance.approvals import Approval

ORCHESTRATOR = "OrchestratorAgent"
#: Seconds between two looks at who runs, while nothing arrives.
TICK_S = 0.5


class Tended(Protocol):
    """What keeps the agents of a conversation running; see `apps.cli.hosts`."""

    def tend(self, timeline: Timeline) -> None: ...

    def nobody(self, timeline: Timeline) -> list[str]: ...


class NobodyTends:
    """For a bus whose agents are looked after elsewhere."""

    def tend(self, timeline: Timeline) -> None:
        return

    def nobody(self, timeline: Timeline) -> list[str]:
        return []


@dataclass
class Follower:
    """How one conversation is followed. `on_approval` is called once for each approval that is asked for.

    `wait_approval=False` returns as soon as a person is needed.
    """

    timeout: float
    hosts: Tended = field(default_factory=NobodyTends)
    on_rows: Callable[[Outcome], None] = lambda _: None
    on_approval: Callable[[Approval], None] = lambda _: None
    wait_approval: bool = True
    #: The conversation that is followed, once there is one.
    correlation_id: str = ""

    def ask(self, client: TailraceClient, question: str) -> Outcome:
        """Send the question and follow what comes of it. Raises what sending raises, and HostFailed."""
        with client.listen() as arrivals:
            self.correlation_id = client.send(ORCHESTRATOR, Ask(question=question)).correlation_id
            return self.follow(arrivals, self.correlation_id, [])

    def follow(self, arrivals: Arrivals, correlation_id: str, known: Iterable[Message]) -> Outcome:
        """Until it is answered, or `timeout` is over. `known`: rows from before `arrivals` began to listen."""
        rows = {row.message_id: row for row in known}
        deadline = time.monotonic() + self.timeout
        asked_for: set[str] = set()
        while True:
            if not rows:  # not even what began it
                _take(rows, arrivals.next_of(correlation_id, TICK_S))
                if not rows and time.monotonic() > deadline:
                    raise CommandError(f"nothing of the conversation {correlation_id} was seen", code=TIMED_OUT)
                continue
            outcome = outcome_of(rows.values())
            self.on_rows(outcome)
            if outcome.final is not None or outcome.status == "failed":
                return outcome
            if (approval := outcome.approval) is not None:
                if not self.wait_approval:
                    return outcome
                if approval.id not in asked_for:
                    asked_for.add(approval.id)
                    self.on_approval(approval)
            self.hosts.tend(outcome.timeline)
            left = deadline - time.monotonic()
            if left <= 0 or self.hosts.nobody(outcome.timeline):
                return outcome
            _take(rows, arrivals.next_of(correlation_id, min(left, TICK_S)))


def _take(rows: dict[str, Message], came: Iterable[Message]) -> None:
    rows.update((row.message_id, row) for row in came)
