"""GovernanceAgent: the gate. Nothing has an effect but under a grant that this agent signs, as the policy and people decide."""

from __future__ import annotations

from schemas.payloads import (
    CodeDryRun,
    Decide,
    Delegate,
    EndDelegation,
    EscalateApproval,
    ExpireApprovals,
    Failed,
    Refused,
    RemindApprovers,
    RequestApproval,
    RequestExecution,
    RevokeGrant,
)
from workers.governance import clocks, decisions, delegations, grants, requests
from workers.governance.delegations import Delegations, NoDelegations
from workers.governance.office import Office, ReadsOf, whole_tables
from workers.governance.policy import PolicyEngine
from workers.ports import Roles
from workers.runtime.base import Context, Outgoing, Received, Worker


class GovernanceAgent(Worker):
    """RequestExecution -> dry run -> policy -> people, where it says so -> RunCode with a grant; or Refused.

    RequestApproval -> policy -> people -> ApprovalGranted; or Refused. `reads_of` tells the columns that code reads.
    """

    handles = (
        RequestExecution,
        RequestApproval,
        CodeDryRun,
        Failed,
        Refused,
        Decide,
        Delegate,
        EndDelegation,
        RevokeGrant,
        RemindApprovers,
        EscalateApproval,
        ExpireApprovals,
    )

    def __init__(
        self,
        roles: Roles,
        policy: PolicyEngine,
        environment: str,
        lent: Delegations | None = None,
        reads_of: ReadsOf = whole_tables,
        approval_ttl_s: float = 86_400.0 * 7,
        grant_ttl_s: float = 3600.0,
    ) -> None:
        self._office = Office(
            roles, policy, environment, lent or NoDelegations(), reads_of, approval_ttl_s, grant_ttl_s
        )

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        office = self._office
        match message.payload:
            case RequestExecution() as asked:
                return requests.execution_requested(office, asked, message, context)
            case RequestApproval() as asked:
                return requests.approval_requested(office, asked, message, context)
            case CodeDryRun():
                return requests.dry_run_done(office, message, context)
            case Failed() | Refused() as outcome:
                return requests.came_to_nothing(office, outcome, message, context)
            case Decide() as decision:
                return decisions.decide(office, decision, message, context)
            case Delegate() as asked:
                return delegations.delegate(asked, message, context, office.roles)
            case EndDelegation() as asked:
                return delegations.end(asked, message, context, office.roles, office.delegations)
            case RevokeGrant() as asked:
                return await grants.revoke(office, asked, message, context)
            case RemindApprovers() | EscalateApproval() | ExpireApprovals() as clock:
                return clocks.rung(office, clock, message, context)
        raise TypeError(f"no way to handle {type(message.payload).__name__}")
