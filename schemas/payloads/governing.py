"""Governance and execution: requests, dry runs, approvals, grants, effects and their outcomes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from schemas.payloads.asking import Code, Result
from schemas.payloads.base import Payload


class Sample(Payload):
    """Rows as JSON-ready values, decimals and times as strings."""

    columns: list[str]
    rows: list[list[Any]]


class EffectPreview(Payload):
    """What a statement would change, tried on a snapshot of its target. None: not known before it runs.

    `version`: the target's version it was tried on; None when there is no such table yet. `changed` counts rows whose
    key stays, where the statement says which they are; else they count as removed and added.
    """

    table: str
    version: int | None
    rows_before: int | None
    rows_after: int | None
    added: int | None
    changed: int | None
    removed: int | None
    sample_added: Sample | None = None
    sample_removed: Sample | None = None
    note: str = ""


class RequestExecution(Payload):
    """Ask governance to have this code run. The answer comes from whoever ends it: CodeRun, Refused or Failed.

    `reads`: tables that Python or PySpark may read; of SQL the engine finds them itself. `confidence`: 0 to 1, of who wrote
    the code. `undoes`: the grant whose effect this takes back; the code's language is `restore` then.
    """

    question: str
    code: Code
    target: str | None = None
    reads: list[str] = []
    confidence: float | None = Field(default=None, ge=0, le=1)
    undoes: str | None = None


class DryRunCode(Payload):
    code: Code
    target: str | None = None
    reads: list[str] = []


class CodeDryRun(Payload):
    """What the engine says of code it has not run. `digest` covers code, target, table versions, columns and plan.

    `statement_class`: read, create, write, delete, drop, alter, grant or other. `writes`: the table that would change.
    `estimated_rows`, `estimated_bytes`: of what is read, by the engine's statistics; None when it does not say.
    """

    code_sha256: str
    statement_class: str
    columns: list[str]
    table_versions: dict[str, int]
    plan: str
    digest: str
    writes: str | None = None
    estimated_rows: int | None = None
    estimated_bytes: int | None = None
    effect: EffectPreview | None = None


Subject = Literal["execution", "retraining", "promotion", "document"]


class Need(Payload):
    """So many different people of a group have to say yes. `group`: a role, or a group of the policy."""

    group: str
    count: int = Field(ge=1)


class RequestApproval(Payload):
    """Ask governance for approval of something that is no code: a retraining, a promotion, a document.

    `name`: what it is about. `digest`: sha256 of exactly that, so that an edited one needs a new approval. The answer is
    ApprovalGranted, Refused or Failed.
    """

    subject: Subject
    name: str
    digest: str
    summary: str
    confidence: float | None = Field(default=None, ge=0, le=1)


class ApprovalRequested(Payload):
    """Governance asks people. Times are UTC microseconds.

    `needs`: who has to say yes, all of them. `rule` of the policy whose digest is `policy` asks for it. `again`: why this is
    asked once more, when an earlier approval came to nothing. `grant_ttl_s`, `table_drift`: what the grant will say.
    """

    approval_id: str
    requester: str
    question: str
    code: Code
    target: str | None
    digest: str
    plan: str
    rule: str
    expires_at: int
    subject: Subject = "execution"
    policy: str = ""
    needs: list[Need] = []
    statement_class: str = ""
    table_versions: dict[str, int] = {}
    effect: EffectPreview | None = None
    remind_at: int | None = None
    escalate_at: int | None = None
    escalates_to: list[Need] = []
    again: str = ""
    grant_ttl_s: float = 900.0
    table_drift: int = 0


class Decide(Payload):
    """A person's decision on an approval; only the signature of the row says who that person is.

    `changes`: it is not approved as it is; `reason` says what to change. `for_user`: whose vote this is, by delegation.
    """

    approval_id: str
    decision: Literal["approve", "reject", "changes"]
    digest: str
    reason: str = ""
    for_user: str | None = None


class ApprovalVoted(Payload):
    """One of several people said yes. `remaining`: what is still needed."""

    approval_id: str
    actor: str
    group: str
    remaining: list[Need]
    for_user: str | None = None


class ApprovalReminded(Payload):
    """Nobody has decided for a while. `waiting_for`: who could."""

    approval_id: str
    waiting_for: list[str]


class ApprovalEscalated(Payload):
    """Nobody has decided in time: from here on these may decide as well."""

    approval_id: str
    to: list[Need]


class CountedVote(Payload):
    """A yes that counted: `actor` signed it, for `for_user` if not for themselves. `groups`: of those that were asked, the
    ones whose right it was belonged to at that moment, which no later policy says any more."""

    actor: str
    for_user: str | None = None
    groups: list[str]


class ApprovalDecided(Payload):
    """The end of an approval. `actors`: everybody whose yes counted; `votes`: the same with the groups they counted by."""

    approval_id: str
    decision: Literal["approved", "rejected", "expired", "changes_requested"]
    actor: str
    reason: str = ""
    actors: list[str] = []
    votes: list[CountedVote] = []


class DecisionAnswered(Payload):
    """What became of a person's decision."""

    approval_id: str
    accepted: bool
    rule: str
    reason: str


class Delegate(Payload):
    """A person lends another the right to decide, for a time. Times are UTC microseconds."""

    to_user: str
    until: int
    reason: str = ""


class EndDelegation(Payload):
    """Take back what was delegated before its time is over."""

    delegation_id: str


class DelegationChanged(Payload):
    """A delegation as it is from here on; `until` in the past has ended it."""

    delegation_id: str
    from_user: str
    to_user: str
    until: int
    reason: str = ""


class DelegationAnswered(Payload):
    """What became of the wish to begin or end a delegation."""

    delegation_id: str
    accepted: bool
    rule: str
    reason: str


class Grant(Payload):
    """Governance's permission for one effect. It is signed by being the content of a signed row from GovernanceAgent.

    `approved_by` is one of `approvers`: the last whose yes was needed; `policy` when a rule of the policy approved by
    itself. `table_drift`: how many versions each table may have moved since the dry run.
    """

    grant_id: str
    approval_id: str | None
    code_sha256: str
    dialect: str
    target: str | None
    dry_run_digest: str
    table_versions: dict[str, int]
    requester: str
    approved_by: str
    rule: str
    issued_at: int
    expires_at: int
    subject: Subject = "execution"
    policy: str = ""
    environment: str = ""
    approvers: list[str] = []
    table_drift: int = 0
    reads: list[str] = []
    undoes: str | None = None


class ApprovalGranted(Payload):
    """What was asked for by RequestApproval may be done, once."""

    grant: Grant


class RevokeGrant(Payload):
    """A person takes a grant back before it is used."""

    grant_id: str
    reason: str = ""


class GrantRevoked(Payload):
    """The grant can no longer be claimed: this stands in the claim's place, so that the log decides which came first."""

    grant_id: str
    executor: str
    actor: str
    reason: str = ""


class RunCode(Payload):
    """Run this once under this grant. `reply_to` is the agent that waits for the outcome."""

    grant: Grant
    question: str
    code: Code
    reply_to: str


class BeginRun(Payload):
    """The clock's message to execution: look again whether this RunCode may begin. `turn`: how often it was looked at."""

    message_id: str
    turn: int = 1


class ExecutionClaimed(Payload):
    """The compare-and-set that makes a grant single use: committed before the effect starts.

    `process`: where it runs, so that whoever finds the claim can tell whether it still does.
    """

    grant_id: str
    requester: str
    question: str
    code: str
    target: str | None
    approved_by: str
    instance: str
    process: str = ""
    undoes: str | None = None


class CodeRun(Payload):
    """The effect happened. `table_version` is the Delta version it wrote.

    `proof`: how that is known when nobody lived to see it; its rows and their number are not known then. `output`: what the
    code printed, cut where it was long.
    """

    grant_id: str
    question: str
    code: str
    result: Result
    row_count: int | None
    requester: str
    approved_by: str
    proof: str = ""
    output: str = ""


class ExecutionSettled(Payload):
    """The outcome of a claim, as an event.

    `in_doubt` may be settled later by a person (`settled_by`), with what proves it, such as a mark in the target's log.
    `table_version_before`: what `undo` goes back to; None when there was no table. `undoes`: the grant whose effect was
    taken back by this.
    """

    grant_id: str
    step: Literal["done", "failed", "in_doubt", "cancelled"]
    requester: str
    question: str
    code: str
    target: str | None
    approved_by: str
    row_count: int | None = None
    table_version: int | None = None
    table_version_before: int | None = None
    reason: str = ""
    settled_by: str | None = None
    proof: str = ""
    undoes: str | None = None


class CancelExecution(Payload):
    """A person ends a running execution: their own, or any as an approver."""

    grant_id: str
    reason: str = ""


class SettleExecution(Payload):
    """A person says what became of an execution in doubt. Where the target can prove it, the proof decides."""

    grant_id: str
    outcome: Literal["done", "failed"]
    reason: str


class ExecutionAnswered(Payload):
    """What became of a person's word on an execution, or of the wish to take back a grant."""

    grant_id: str
    accepted: bool
    rule: str
    reason: str


class ExpireApprovals(Payload):
    """The clock's message to governance: lapse what is overdue."""

    approval_id: str


class RemindApprovers(Payload):
    """The clock's message to governance: nobody has decided yet."""

    approval_id: str


class EscalateApproval(Payload):
    """The clock's message to governance: nobody has decided in time."""

    approval_id: str
