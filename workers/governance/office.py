"""What all parts of governance decide by, and how they put their decisions on record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from schemas.envelope import is_user
from schemas.payloads import Code, CodeDryRun, Subject
from schemas.policy import Approval
from workers.governance.delegations import Delegations
from workers.governance.policy import Decision, PolicyEngine, Question
from workers.governance.voting import Electorate
from workers.ports import Roles, UnknownUser
from workers.runtime.base import Context, Outgoing, audit

#: What it takes a permission of the role to ask for, whatever the policy says; the rest is the policy's alone.
ASKING: Mapping[Subject, str] = {"execution": "sql.execute", "promotion": "model.promote"}
#: What gives a say where no group that the policy asks has this person.
DECIDING: Mapping[Subject, str] = {
    "execution": "execution.approve",
    "retraining": "model.promote",
    "promotion": "model.promote",
    "document": "knowledge.approve",
}
#: What takes a permission of its own, whatever the policy says: classes of statements that take data away.
TAKING_AWAY = frozenset({"delete", "drop"})
#: The role of an agent that asks in a conversation of its own.
AGENT_ROLE = "agent"

#: Columns by table that code reads; None when that is not known.
ReadsOf = Callable[[Code, CodeDryRun], Mapping[str, frozenset[str]] | None]


def whole_tables(code: Code, dry_run: CodeDryRun) -> Mapping[str, frozenset[str]]:
    """Every column of every table that the engine looked at: never less than what is read."""
    return {table: frozenset({"*"}) for table in dry_run.table_versions}


@dataclass(frozen=True)
class Office:
    """`approval_ttl_s` and `grant_ttl_s` are the longest there are, whatever a rule of the policy says."""

    roles: Roles
    policy: PolicyEngine
    environment: str
    delegations: Delegations
    reads_of: ReadsOf
    approval_ttl_s: float
    grant_ttl_s: float

    @property
    def electorate(self) -> Electorate:
        return Electorate(self.roles, self.policy.policy.groups)

    def question(self, subject: Subject, context: Context) -> Question:
        """What is known before anything was tried."""
        principal = context.principal or ""
        return Question(subject, principal, self.role_of(principal), self.environment, context.now)

    def role_of(self, principal: str) -> str:
        """Of a person the role, "" for one without; agents that ask for themselves have one of their own."""
        if principal.startswith("agent:"):
            return AGENT_ROLE
        try:
            return self.roles.role_of(principal)
        except UnknownUser:
            return ""

    def may_ask(self, subject: Subject, context: Context) -> tuple[str, str] | None:
        """By role, before any policy: the rule that refuses it and the reason, or None."""
        principal, permission = context.principal or "", ASKING.get(subject)
        if permission is None or self.role_of(principal) == AGENT_ROLE or self.roles.allows(principal, permission):
            return None
        return f"rbac.{permission}", f"{principal}'s role does not allow {permission}"

    def limited(self, approval: Approval) -> Approval:
        return approval.model_copy(
            update={
                "expires_after_s": min(approval.expires_after_s, self.approval_ttl_s),
                "grant_ttl_s": min(approval.grant_ttl_s, self.grant_ttl_s),
            }
        )

    def fact(
        self,
        action: str,
        decision: Literal["allowed", "refused", "done", "failed"],
        rule: str,
        reason: str,
        **details: object,
    ) -> Outgoing:
        """For the auditor: every decision names its rule and the policy's digest."""
        return audit(action, decision, rule=rule, reason=reason, policy=self.policy.digest, **details)

    def decided(self, action: str, decision: Decision, **details: object) -> Outgoing:
        word: Literal["allowed", "refused"] = "refused" if decision.effect == "deny" else "allowed"
        return self.fact(action, word, decision.rule, decision.reason, effect=decision.effect, **details)


def confidence(said: float | None, sender: str) -> float | None:
    """How sure the writer of the code is. A person who asks directly would vouch for themselves."""
    return None if is_user(sender) else said
