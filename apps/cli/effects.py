"""Executions as a fold of the log: each grant's claim and what is known of its outcome."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from schemas.envelope import Message

EXECUTOR = "ExecutionAgent"
KINDS = {"ExecutionClaimed": "claimed", "ExecutionSettled": ""}


@dataclass
class Effect:
    """`step`: claimed, done, failed or in_doubt. Times are UTC microseconds."""

    grant_id: str
    correlation_id: str
    step: str
    requester: str
    approved_by: str
    question: str
    target: str | None
    row_count: int | None
    table_version: int | None
    reason: str
    claimed_at: int
    settled_at: int | None


def effects(rows: Iterable[Message]) -> list[Effect]:
    found: dict[str, Effect] = {}
    for row in rows:
        if row.from_agent != EXECUTOR or row.message_type != "event" or row.kind not in KINDS:
            continue
        said = json.loads(row.content)
        effect = found.setdefault(said["grant_id"], _claimed(said, row))
        if row.kind == "ExecutionSettled":
            effect.step, effect.settled_at = said["step"], row.timestamp
            effect.row_count, effect.table_version = said.get("row_count"), said.get("table_version")
            effect.reason = said.get("reason", "")
    return list(found.values())


def _claimed(said: dict[str, str], row: Message) -> Effect:
    return Effect(
        grant_id=said["grant_id"],
        correlation_id=row.correlation_id,
        step="claimed",
        requester=said["requester"],
        approved_by=said["approved_by"],
        question=said["question"],
        target=said.get("target"),
        row_count=None,
        table_version=None,
        reason="",
        claimed_at=row.timestamp,
        settled_at=None,
    )
