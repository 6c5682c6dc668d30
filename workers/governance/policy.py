"""What governance decides without a person: whether a request may be made at all, and what it needs."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.payloads import CodeDryRun, RequestExecution
from workers.ports import Roles


@dataclass(frozen=True)
class Verdict:
    """`allowed` False ends the request; True means a person is asked. `rule` names what decided."""

    allowed: bool
    rule: str
    reason: str


#: What may run at all under these rules; everything else is denied by default.
READ_CLASSES = frozenset({"read", "create"})
LANGUAGES = frozenset({"sql"})


def may_request(payload: RequestExecution, requester: str, roles: Roles) -> Verdict:
    """Before the dry run."""
    if not roles.allows(requester, "sql.execute"):
        return Verdict(False, "rbac.sql.execute", f"{requester}'s role does not allow running code")
    if payload.code.language not in LANGUAGES:
        return Verdict(
            False, "execution.language", f"{payload.code.language} is not run here; {', '.join(sorted(LANGUAGES))} is"
        )
    return Verdict(True, "rbac.sql.execute", "the role may ask for execution")


def needs_approval(dry_run: CodeDryRun) -> Verdict:
    """After the dry run: deny by default, a person decides on what is left."""
    if dry_run.statement_class not in READ_CLASSES:
        return Verdict(
            False, "execution.statement_class", f"a {dry_run.statement_class} statement is never approved here"
        )
    return Verdict(True, "execution.four_eyes", "another person with execution.approve has to approve")


def may_decide(actor: str, requester: str, roles: Roles) -> Verdict:
    """Whether this person may decide on that person's request."""
    if actor == requester:
        return Verdict(
            False, "approval.own_request", f"{actor} asked for this and cannot decide on it; someone else must"
        )
    if not roles.allows(actor, "execution.approve"):
        return Verdict(False, "rbac.execution.approve", f"{actor}'s role does not allow execution.approve")
    return Verdict(True, "execution.four_eyes", f"{actor} may decide on {requester}'s request")
