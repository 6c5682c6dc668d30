"""What the bus itself says: receipts, expiry, audit facts, instances."""

from __future__ import annotations

from typing import Any, Literal

from schemas.payloads.base import Payload


class Receipt(Payload):
    """Said once for a message by an agent. The row's causation_id is the message; `handled_ms` its time in the handler."""

    outcome: Literal["handled", "rejected", "dead", "expired"]
    reason: str = ""
    attempts: int = 1
    handled_ms: float | None = None


class MessageExpired(Payload):
    """A message was not handled in time: `expires_at` (UTC microseconds) had passed when its turn came."""

    message_id: str
    message_kind: str
    sender: str
    agent: str
    expires_at: int


class MessageRedriven(Payload):
    """Somebody had a message delivered again that `agent` had given up, and which rule let them; `reason` is the agent's.

    It is that person's word, signed beside the message it speaks of: what agents state as facts is `AuditRecorded`.
    """

    message_id: str
    redriven_as: str
    agent: str
    attempt: int
    principal: str | None
    action: Literal["message.redriven"] = "message.redriven"
    decision: Literal["allowed"] = "allowed"
    rule: str
    reason: str


class AuditRecorded(Payload):
    """One fact for the auditor. Writer, sequence and previous are filled in by the bus as it commits."""

    action: str
    decision: Literal["allowed", "refused", "done", "failed"]
    rule: str = ""
    reason: str = ""
    details: dict[str, Any] = {}
    writer: str = ""
    sequence: int = 0
    previous: str = ""


class InstanceChanged(Payload):
    """An instance started, renewed its lease, stopped, or was ended by another that saw no renewal for its duration.

    `duration_ms`: how long the lease holds without a renewal. `number`: 0 as it starts, then counts renewals; `ended`
    names the newest it saw. `by`: who ended it. `subscribes`: event kinds its agent gets from here on. `seen`: the
    version up to which its writer had seen the leases of its agent. `busy`: messages under way at a renewal.
    """

    agent: str
    instance: str
    host: str
    engine: str
    step: Literal["started", "renewed", "stopped", "ended"]
    kinds: list[str]
    duration_ms: int = 0
    number: int = 0
    by: str | None = None
    subscribes: list[str] = []
    seen: int = -1
    busy: list[str] = []
