"""A person's decisions: which approvals there are, and saying yes or no to one in the person's own name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from apps.cli import history
from apps.cli.exits import MISUSE, CommandError
from apps.cli.session import checker, speaking_as
from workers.governance.approvals import AUTHORITY, Approval, approvals

if TYPE_CHECKING:
    from jobs.bootstrap import System

Choice = Literal["approve", "reject"]


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
    system: System, user: str, approval: Approval, choice: Choice, reason: str = "", timeout: float = 30.0
) -> Decided:
    """Append the decision, signed by this user; wait for governance's word if governance runs."""
    from bus.errors import TimedOut
    from jobs.liveness import running
    from schemas.payloads import Decide

    said = Decide(approval_id=approval.id, decision=choice, digest=approval.requested.digest, reason=reason)
    cause = approval.message
    with speaking_as(system, user) as client, client.listen() as arrivals:
        sent = client.send(AUTHORITY, said, correlation_id=cause.correlation_id, causation_id=cause.message_id)
        accepted, rule, why = None, "", ""
        if AUTHORITY in running(system.home):
            try:
                accepted, rule, why = _verdict(arrivals.response_to(sent.message_id, timeout).content)
            except TimedOut:
                why = f"governance did not answer within {timeout:g} s"
        else:
            why = "governance does not run; it decides as soon as it does"
    return Decided(approval.id, choice, sent.correlation_id, sent.message_id, accepted, rule, why)


def _verdict(content: str) -> tuple[bool, str, str]:
    """From DecisionAnswered, or from the Failed or Refused of a decision that could not be handled."""
    import json

    said = json.loads(content)
    return bool(said.get("accepted", False)), str(said.get("rule", "")), str(said.get("reason", ""))
