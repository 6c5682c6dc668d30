"""Grants as a fold of the log: each permission that governance signed, and whether it was used or taken back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from apps.cli import history
from apps.cli.approving import tell_governance
from apps.cli.exits import MISUSE, CommandError
from apps.cli.session import checker
from schemas.envelope import Message
from schemas.payloads import ApprovalGranted, Grant, GrantRevoked, RevokeGrant, RunCode
from workers.governance.approvals import AUTHORITY

if TYPE_CHECKING:
    from jobs.bootstrap import System

#: What users of grants say of them, as events.
CLAIMED, SETTLED, REVOKED = "ExecutionClaimed", "ExecutionSettled", GrantRevoked.kind()
STEPS = (CLAIMED, SETTLED, REVOKED)


@dataclass
class Issued:
    """`step`: open, expired, claimed, done, failed, cancelled, in_doubt or revoked. Times are UTC microseconds."""

    grant: Grant
    question: str
    step: str
    revoked_by: str
    reason: str
    #: The row that carries it: what is said of the grant is said in answer to it.
    message: Message = field(repr=False)

    def status(self, now: int) -> str:
        return "expired" if self.step == "open" and self.grant.expires_at < now else self.step

    def document(self, now: int) -> dict[str, Any]:
        return self.grant.model_dump() | {
            "status": self.status(now),
            "correlation_id": self.message.correlation_id,
            "question": self.question,
            "revoked_by": self.revoked_by or None,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Revoked:
    """What became of the wish. `accepted` None: it is in the log, and governance has not answered yet."""

    grant_id: str
    correlation_id: str
    message_id: str
    accepted: bool | None
    rule: str
    reason: str


def every_grant(system: System) -> list[Issued]:
    """All grants in log order; only what was signed by whom it names."""
    accept = checker(system)
    return grants(row for row in history.everything(system) if accept(row))


def grants(rows: Iterable[Message]) -> list[Issued]:
    found: dict[str, Issued] = {}
    for row in rows:
        if row.from_agent == AUTHORITY and row.kind in (RunCode.kind(), ApprovalGranted.kind()):
            one = _issued(row)
            found.setdefault(one.grant.grant_id, one)
        elif row.message_type == "event" and row.kind in STEPS:
            said = json.loads(row.content)
            known = found.get(said["grant_id"])
            # Whom the grant was sent to uses it, and nobody else says what became of it.
            if known is None or row.from_agent != (AUTHORITY if row.kind == REVOKED else known.message.to_agent):
                continue
            if row.kind == CLAIMED:
                known.step = "claimed"
            elif row.kind == SETTLED:
                known.step, known.reason = said["step"], said.get("reason", "")
            else:
                known.step, known.revoked_by, known.reason = "revoked", said["actor"], said.get("reason", "")
    return list(found.values())


def _issued(row: Message) -> Issued:
    if row.kind == RunCode.kind():
        run = RunCode.model_validate_json(row.content)
        return Issued(run.grant, run.question, "open", "", "", row)
    grant = ApprovalGranted.model_validate_json(row.content).grant
    return Issued(grant, f"{grant.subject} {grant.target}", "open", "", "", row)


def find(system: System, named: str) -> Issued:
    """The grant with this id, or the only one whose id begins so. Raises CommandError."""
    there = every_grant(system)
    ids = [one for one in there if one.grant.grant_id == named]
    found = ids or [one for one in there if named and one.grant.grant_id.startswith(named)]
    if len(found) == 1:
        return found[0]
    cause = f"there is no grant {named}" if not found else f"{len(found)} grants begin with {named}"
    raise CommandError(cause, "tailrace grants list --all", MISUSE)


def revoke(system: System, user: str, issued: Issued, reason: str, timeout: float = 30.0) -> Revoked:
    """In the grant's own conversation, signed by this user."""
    said = RevokeGrant(grant_id=issued.grant.grant_id, reason=reason)
    sent, answer, why = tell_governance(system, user, said, issued.message, timeout)
    accepted = None if answer is None else bool(answer.get("accepted"))
    rule, told = ("", why) if answer is None else (str(answer.get("rule", "")), str(answer.get("reason", "")))
    return Revoked(said.grant_id, sent.correlation_id, sent.message_id, accepted, rule, told)
