"""Executions as a fold of the log: each grant's claim and what is known of its outcome."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from apps.cli import history
from apps.cli.exits import MISUSE, CommandError
from apps.cli.session import checker
from schemas.envelope import Message

if TYPE_CHECKING:
    from jobs.bootstrap import System

EXECUTOR = "ExecutionAgent"
KINDS = {"ExecutionClaimed": "claimed", "ExecutionSettled": ""}


@dataclass
class Effect:
    """`step`: claimed, done, failed, cancelled or in_doubt. Times are UTC microseconds.

    `settled_by`: who said what became of it, when nobody had lived to see it; `proof`: what proves it.
    """

    grant_id: str
    correlation_id: str
    step: str
    requester: str
    approved_by: str
    question: str
    target: str | None
    row_count: int | None
    table_version: int | None
    table_version_before: int | None
    reason: str
    settled_by: str | None
    proof: str
    undoes: str | None
    code: str
    claimed_at: int
    settled_at: int | None
    #: The claim's row: what is said of the execution is said in answer to it.
    claim: Message = field(repr=False)

    def document(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "claim"}

    @property
    def goes_back_to(self) -> int | None:
        """The version an undo restores; None: there was no table."""
        if self.table_version_before is not None:
            return self.table_version_before
        return self.table_version - 1 if self.table_version else None


def every_effect(system: System) -> list[Effect]:
    """All executions, in the order of their claims; only what execution signed, because a person acts on it."""
    accept = checker(system)
    return effects(row for row in history.everything(system) if accept(row))


def effects(rows: Iterable[Message]) -> list[Effect]:
    found: dict[str, Effect] = {}
    for row in rows:
        if row.from_agent != EXECUTOR or row.message_type != "event" or row.kind not in KINDS:
            continue
        said = json.loads(row.content)
        effect = found.setdefault(said["grant_id"], _claimed(said, row))
        if row.kind == "ExecutionSettled":
            effect.step, effect.settled_at = said["step"], row.timestamp
            for name in ("row_count", "table_version", "table_version_before", "settled_by"):
                setattr(effect, name, said.get(name))
            effect.reason, effect.proof = said.get("reason", ""), said.get("proof", "")
    return list(found.values())


def find(named: str, known: Sequence[Effect]) -> Effect:
    """The execution under this grant, or the only one whose grant begins so. Raises CommandError."""
    found = [e for e in known if e.grant_id == named] or [e for e in known if named and e.grant_id.startswith(named)]
    if len(found) == 1:
        return found[0]
    cause = f"nothing was executed under {named}" if not found else f"{len(found)} executions begin with {named}"
    newest = ", ".join(e.grant_id for e in known[:-4:-1]) or "none"
    raise CommandError(f"{cause}; the newest are {newest}", "tailrace executions", MISUSE)


def _claimed(said: dict[str, Any], row: Message) -> Effect:
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
        table_version_before=None,
        reason="",
        settled_by=None,
        proof="",
        undoes=said.get("undoes"),
        code=said.get("code", ""),
        claimed_at=row.timestamp,
        settled_at=None,
        claim=row,
    )
