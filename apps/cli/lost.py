"""Messages that got a receipt but were not handled: dead, rejected or expired."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from schemas.envelope import Message


@dataclass(frozen=True)
class Lost:
    """`outcome` and `reason` are the receipt's."""

    message: Message
    agent: str
    outcome: str
    reason: str
    attempts: int
    at: int

    def document(self) -> dict[str, Any]:
        return {
            "message_id": self.message.message_id,
            "correlation_id": self.message.correlation_id,
            "kind": self.message.kind,
            "from": self.message.from_agent,
            "agent": self.agent,
            "outcome": self.outcome,
            "reason": self.reason,
            "attempts": self.attempts,
            "at": self.at,
        }


def lost(rows: Iterable[Message]) -> list[Lost]:
    by_id: dict[str, Message] = {}
    found: list[Lost] = []
    for row in rows:
        if row.message_type != "receipt":
            by_id[row.message_id] = row
            continue
        said = json.loads(row.content)
        message = by_id.get(row.causation_id or "")
        if message is not None and said.get("outcome") != "handled":
            outcome, reason = str(said.get("outcome")), str(said.get("reason", ""))
            found.append(Lost(message, row.from_agent, outcome, reason, int(said.get("attempts", 1)), row.timestamp))
    return found
