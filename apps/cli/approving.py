"""A person's decisions: which approvals there are, saying yes, no or what to change, and lending the right to do so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from apps.cli import history
from apps.cli.exits import MISUSE, CommandError
from apps.cli.session import checker, speaking_as
from workers.governance.approvals import AUTHORITY, Approval, approvals

if TYPE_CHECKING:
    from jobs.bootstrap import System
    from schemas.envelope import Message
    from schemas.payloads import Payload
    from workers.governance.delegations import Delegation

Choice = Literal["approve", "reject", "changes"]


@dataclass(frozen=True)
class Decided:
    """What became of a decision. `accepted` None: it is in the log, and governance has not answered yet."""

    approval_id: str
    decision: Choice
    correlation_id: str
    message_id: str
    accepted: bool | None
    rule: str
    reason: str
    for_user: str | None = None


@dataclass(frozen=True)
class Lent:
    """What became of a delegation. `accepted` None: it is in the log, and governance has not answered yet."""

    delegation_id: str
    correlation_id: str
    accepted: bool | None
    rule: str
    reason: str


def every_approval(system: System) -> list[Approval]:
    """All approvals, in log order; only what governance signed, because a person acts on it."""
    accept = checker(system)
    return list(approvals(row for row in history.everything(system) if accept(row)).values())


def find(system: System, named: str, known: Sequence[Approval] | None = None) -> Approval:
    """The approval with this id, or the only one whose id begins so. Raises CommandError naming those that are open."""
    there = every_approval(system) if known is None else known
    found = [a for a in there if a.id == named] or [a for a in there if named and a.id.startswith(named)]
    if len(found) == 1:
        return found[0]
    pending = ", ".join(a.id for a in there if a.decided is None) or "none"
    cause = f"there is no approval {named}" if not found else f"{len(found)} approvals begin with {named}"
    raise CommandError(f"{cause}; waiting for a decision: {pending}", "tailrace approvals list --all", MISUSE)


def decide(
    system: System,
    user: str,
    approval: Approval,
    choice: Choice,
    reason: str = "",
    timeout: float = 30.0,
    for_user: str | None = None,
) -> Decided:
    """Append the decision, signed by this user; wait for governance's word if governance runs."""
    from schemas.payloads import Decide

    digest = approval.requested.digest
    said = Decide(approval_id=approval.id, decision=choice, digest=digest, reason=reason, for_user=for_user)
    sent, answer, why = tell_governance(system, user, said, approval.message, timeout)
    accepted = None if answer is None else bool(answer.get("accepted"))
    rule, reason = _word(answer, why)
    return Decided(approval.id, choice, sent.correlation_id, sent.message_id, accepted, rule, reason, for_user)


def delegate(system: System, user: str, to_user: str, until: int, reason: str, timeout: float = 30.0) -> Lent:
    """`until`: UTC microseconds."""
    from schemas.payloads import Delegate

    return _lent(system, user, Delegate(to_user=to_user, until=until, reason=reason), timeout)


def end_delegation(system: System, user: str, delegation_id: str, timeout: float = 30.0) -> Lent:
    from schemas.payloads import EndDelegation

    return _lent(system, user, EndDelegation(delegation_id=delegation_id), timeout)


def _lent(system: System, user: str, said: Payload, timeout: float) -> Lent:
    sent, answer, why = tell_governance(system, user, said, None, timeout)
    named = str((answer or {}).get("delegation_id", getattr(said, "delegation_id", "")))
    accepted = None if answer is None else bool(answer.get("accepted"))
    return Lent(named, sent.correlation_id, accepted, *_word(answer, why))


def every_delegation(system: System) -> list[Delegation]:
    """In the order they began; only what governance signed."""
    from workers.governance.delegations import delegations

    accept = checker(system)
    return delegations(row for row in history.everything(system) if accept(row))


def find_delegation(system: System, named: str) -> Delegation:
    """The delegation with this id, or the only one whose id begins so. Raises CommandError."""
    there = every_delegation(system)
    found = [one for one in there if one.id == named] or [one for one in there if named and one.id.startswith(named)]
    if len(found) == 1:
        return found[0]
    cause = f"there is no delegation {named}" if not found else f"{len(found)} delegations begin with {named}"
    raise CommandError(cause, "tailrace approvals delegations --all", MISUSE)


def tell_governance(
    system: System, user: str, said: Payload, about: Message | None, timeout: float
) -> tuple[Message, dict[str, Any] | None, str]:
    """Say it, signed by this user, in the conversation of `about` or one of its own.

    Returns what was sent, governance's answer, and without one why there is none yet.
    """
    from bus.errors import TimedOut
    from jobs.liveness import running

    where = {"correlation_id": about.correlation_id, "causation_id": about.message_id} if about is not None else {}
    with speaking_as(system, user) as client, client.listen() as arrivals:
        sent = client.send(AUTHORITY, said, **where)
        if AUTHORITY not in running(system.home):
            return sent, None, "governance does not run; it decides as soon as it does"
        try:
            return sent, json.loads(arrivals.response_to(sent.message_id, timeout).content), ""
        except TimedOut:
            return sent, None, f"governance did not answer within {timeout:g} s"


def _word(answer: dict[str, Any] | None, why: str) -> tuple[str, str]:
    """Rule and reason, also from the Failed or Refused of what could not be handled."""
    return ("", why) if answer is None else (str(answer.get("rule", "")), str(answer.get("reason", "")))
