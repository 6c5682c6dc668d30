"""What each projection makes of a message: one small function a table, and the list of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from bus.audit import is_audit, says_fact
from bus.log.table import DeltaLog
from bus.projections.projector import Accept, Project, Projection, payload_of
from schemas.columns import TableSchema
from schemas.envelope import Message
from schemas.tables import AGENT_EVENTS, AGENT_REGISTRY, APPROVALS, AUDIT_LOG, EXECUTIONS

GOVERNANCE = "GovernanceAgent"
EXECUTION = "ExecutionAgent"


def event_row(message: Message) -> Mapping[str, Any] | None:
    if message.message_type != "event" or says_fact(message):
        return None
    return {
        "message_id": message.message_id,
        "correlation_id": message.correlation_id,
        "causation_id": message.causation_id,
        "from_agent": message.from_agent,
        "kind": message.kind,
        "content": message.content,
        "principal": message.principal,
        **_place(message),
    }


def audit_row(message: Message) -> Mapping[str, Any] | None:
    return fact_row(message) if is_audit(message) else None


def fact_row(message: Message) -> Mapping[str, Any]:
    """Of a row that says a fact, whoever does."""
    fact = payload_of(message)
    return {
        "message_id": message.message_id,
        "correlation_id": message.correlation_id,
        "causation_id": message.causation_id,
        "writer": fact.get("writer"),
        "sequence": fact.get("sequence"),
        "previous": fact.get("previous"),
        "agent": message.from_agent,
        "action": fact.get("action"),
        "decision": fact.get("decision"),
        "rule": fact.get("rule"),
        "reason": fact.get("reason"),
        "principal": message.principal,
        "details": json.dumps(fact.get("details", {}), ensure_ascii=False),
        **_place(message),
    }


def approval_row(message: Message) -> Mapping[str, Any] | None:
    if message.from_agent != GOVERNANCE or message.message_type != "event":
        return None
    said = payload_of(message)
    base = {"approval_id": said.get("approval_id"), "correlation_id": message.correlation_id, **_place(message)}
    if message.kind == "ApprovalRequested":
        return base | {
            "step": "requested",
            "actor": said.get("requester"),
            "requester": said.get("requester"),
            "code": said.get("code", {}).get("text"),
            "target": said.get("target"),
            "digest": said.get("digest"),
            "reason": said.get("rule"),
            "expires_at": said.get("expires_at"),
        }
    step = _STEPS.get(message.kind)
    if step is None:
        return None
    return base | {
        "step": step or said.get("decision"),
        "actor": said.get("actor", GOVERNANCE),
        "requester": message.principal,
        "reason": said.get("reason") or _reason(said),
    }


#: Steps of an approval after the question; "" where the event itself says which.
_STEPS = {
    "ApprovalVoted": "voted",
    "ApprovalReminded": "reminded",
    "ApprovalEscalated": "escalated",
    "ApprovalDecided": "",
}


def _reason(said: Mapping[str, Any]) -> str:
    """What a step that nobody gave a reason for says by itself."""
    if said.get("for_user"):
        return f"for {said['for_user']}"
    to = said.get("to") or said.get("remaining") or []
    groups = [f"{need.get('count')} of {need.get('group')}" for need in to] or said.get("waiting_for") or []
    return ", ".join(map(str, groups))


def execution_row(message: Message) -> Mapping[str, Any] | None:
    if message.from_agent != EXECUTION or message.message_type != "event":
        return None
    if message.kind not in ("ExecutionClaimed", "ExecutionSettled"):
        return None
    said = payload_of(message)
    names = (
        "grant_id",
        "requester",
        "question",
        "code",
        "target",
        "table_version",
        "table_version_before",
        "row_count",
        "approved_by",
        "reason",
        "settled_by",
        "proof",
        "undoes",
    )
    return {
        "correlation_id": message.correlation_id,
        "step": said.get("step", "claimed"),
        **{name: said.get(name) for name in names},
        **_place(message),
    }


def registry_row(message: Message) -> Mapping[str, Any] | None:
    if message.kind != "InstanceChanged" or message.message_type != "event":
        return None
    said = payload_of(message)
    names = ("agent", "instance", "host", "engine", "step")
    return {**{name: said.get(name) for name in names}, "kinds": ",".join(said.get("kinds", [])), **_place(message)}


#: Every projection there is.
PROJECTIONS: tuple[tuple[TableSchema, Project], ...] = (
    (AGENT_EVENTS, event_row),
    (AUDIT_LOG, audit_row),
    (APPROVALS, approval_row),
    (EXECUTIONS, execution_row),
    (AGENT_REGISTRY, registry_row),
)


def projections(open_log: Callable[[str], DeltaLog], accept: Accept = lambda _: True) -> list[Projection]:
    return [Projection(open_log(schema.name), project, accept) for schema, project in PROJECTIONS]


def _place(message: Message) -> dict[str, Any]:
    return {"timestamp": message.timestamp, "log_version": message.log_version, "seq": message.seq}
