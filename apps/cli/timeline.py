"""A conversation's rows as steps in time: who told whom what, how long it waited, how it was handled, what followed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bus.audit import is_audit
from schemas.envelope import EVERYONE, Message, is_user

RECEIPT = "receipt"
#: What a person says of redriving a message stands beside the agents' facts of it.
REDRIVEN = "MessageRedriven"


@dataclass(frozen=True)
class Handling:
    """What a receipt says. `took_ms` is from sending to receipt; `handled_ms` the part in the handler, where known."""

    agent: str
    outcome: str
    reason: str
    at_ms: float
    took_ms: float
    handled_ms: float | None

    @property
    def queued_ms(self) -> float | None:
        return None if self.handled_ms is None else max(0.0, self.took_ms - self.handled_ms)


@dataclass(frozen=True)
class Fact:
    """An audit fact, as far as a person reads it."""

    action: str
    decision: str
    rule: str
    reason: str


@dataclass
class Step:
    """One message. `at_ms` since the conversation began; `waits_for` names who still owes a receipt."""

    message: Message
    at_ms: float
    handlings: list[Handling] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    children: list[Step] = field(default_factory=list)
    deferred: bool = False

    @property
    def waits_for(self) -> str | None:
        to = self.message.to_agent
        if self.handlings or to in ("", EVERYONE) or is_user(to):
            return None
        return to


class Timeline:
    """All steps of one conversation. `now` (UTC microseconds) tells what is only due later."""

    def __init__(self, rows: Iterable[Message], now: int | None = None) -> None:
        self.rows = sorted(rows, key=lambda row: row.position)
        messages = [row for row in self.rows if row.message_type != RECEIPT and not _is_fact(row)]
        self.start = messages[0].timestamp if messages else 0
        self.steps = {row.message_id: Step(row, self._since(row.timestamp)) for row in messages}
        for row in self.rows:
            if row.message_type == RECEIPT:
                self._receive(row)
            elif _is_fact(row) and (step := self.steps.get(row.causation_id or "")) is not None:
                step.facts.append(_fact(row))
        self.roots: list[Step] = []
        for step in self.steps.values():
            due = step.message.not_before
            step.deferred = due is not None and not step.handlings and (now is None or due > now)
            parent = self._parent(step)
            (self.roots if parent is None else parent.children).append(step)

    def _since(self, timestamp: int) -> float:
        return (timestamp - self.start) / 1000

    def _receive(self, row: Message) -> None:
        step = self.steps.get(row.causation_id or "")
        if step is None:
            return
        said = _content(row)
        spent = said.get("handled_ms")
        # What was not due before a certain time did not queue until then.
        began = max(step.message.timestamp, step.message.not_before or 0)
        step.handlings.append(
            Handling(
                agent=row.from_agent,
                outcome=str(said.get("outcome", "handled")),
                reason=str(said.get("reason", "")),
                at_ms=self._since(row.timestamp),
                took_ms=max(0.0, (row.timestamp - began) / 1000),
                handled_ms=float(spent) if isinstance(spent, int | float) else None,
            )
        )

    def _parent(self, step: Step) -> Step | None:
        """Where it is drawn. What follows from a response continues its request, so it stands beside that."""
        cause = self.steps.get(step.message.causation_id or "")
        if cause is None or cause is step:
            return None
        if cause.message.message_type == "response" and cause.message.causation_id in self.steps:
            asked = self.steps[cause.message.causation_id or ""]
            return self._parent(asked) or asked
        return cause

    # --- what it comes to --------------------------------------------------------------------------------------------

    def handlings(self) -> list[Handling]:
        return [handling for step in self.steps.values() for handling in step.handlings]

    @property
    def hops(self) -> int:
        """Messages that were handled."""
        return sum(handling.outcome == "handled" for handling in self.handlings())

    def open(self) -> list[tuple[Message, str]]:
        """What waits for an agent now, and for whom; not what is only due later."""
        return [(s.message, s.waits_for) for s in self.steps.values() if s.waits_for and not s.deferred]

    def totals(self, end: Message | None) -> dict[str, float | None]:
        """Milliseconds queued, handled, and from the first row to `end` (or the last row)."""
        handlings = self.handlings()
        measured = [h for h in handlings if h.handled_ms is not None]
        last = end.timestamp if end else max((row.timestamp for row in self.rows), default=self.start)
        complete = len(measured) == len(handlings)
        return {
            "queued": round(sum(h.queued_ms or 0.0 for h in measured), 1) if complete else None,
            "handled": round(sum(h.handled_ms or 0.0 for h in measured), 1) if complete else None,
            "total": round(self._since(last), 1),
        }

    def document(self) -> list[dict[str, Any]]:
        """Every message in log order, for machines."""
        return [_document(step) for step in self.steps.values()]


def is_answer(row: Message, root: Message) -> bool:
    """Whether this row ends the conversation for whoever began it."""
    return row.message_type == "response" and row.causation_id == root.message_id and row.to_agent == root.from_agent


def answer_to(rows: Sequence[Message], root: Message) -> Message | None:
    return next((row for row in rows if is_answer(row, root)), None)


def _document(step: Step) -> dict[str, Any]:
    message = step.message
    return {
        "position": list(message.position),
        "message_id": message.message_id,
        "causation_id": message.causation_id,
        "from": message.from_agent,
        "to": message.to_agent,
        "type": message.message_type,
        "kind": message.kind,
        "principal": message.principal,
        "attempt": message.attempt,
        "redriven_from": message.causation_id if message.attempt > 1 else None,
        "at_ms": round(step.at_ms, 3),
        "handled_by": [
            {
                "agent": h.agent,
                "outcome": h.outcome,
                "reason": h.reason,
                "at_ms": round(h.at_ms, 3),
                "queued_ms": None if h.queued_ms is None else round(h.queued_ms, 3),
                "handled_ms": None if h.handled_ms is None else round(h.handled_ms, 3),
                "took_ms": round(h.took_ms, 3),
            }
            for h in step.handlings
        ],
        "facts": [vars(fact) for fact in step.facts],
        "content": _content(message) or message.content,
    }


def _is_fact(row: Message) -> bool:
    return is_audit(row) or (row.kind == REDRIVEN and row.message_type == "event")


def _fact(row: Message) -> Fact:
    said = _content(row)
    return Fact(*(str(said.get(name, "")) for name in ("action", "decision", "rule", "reason")))


def _content(row: Message) -> dict[str, Any]:
    try:
        found = json.loads(row.content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
