"""The payloads of messages: commands are imperative, events past tense; a kind is the name of its class."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Payload(BaseModel):
    """Root of all payloads. Frozen; unknown fields are errors, so that a typo is not silently dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def kind(cls) -> str:
        return cls.__name__


# --- a person and the orchestrator -----------------------------------------------------------------------------------


class Ask(Payload):
    """A person's question, in plain language."""

    question: str = Field(max_length=1 << 20)


class Source(Payload):
    """A passage an answer rests on: `score` in the index's unit, `why` names what matched."""

    document: str
    chunk: int
    score: float
    why: str


class Code(Payload):
    language: str
    text: str


class Result(Payload):
    """Rows of a result. `table` is where it is kept; `table_version` is the version to read it back at."""

    columns: list[str]
    rows: list[list[Any]]
    truncated: bool = False
    table: str | None = None
    table_version: int | None = None


class Refusal(Payload):
    rule: str
    reason: str


class Answered(Payload):
    """The end of a conversation, addressed to the person who asked."""

    status: Literal["answered", "refused", "failed"]
    answer: str
    code: Code | None = None
    result: Result | None = None
    sources: list[Source] = []
    refusal: Refusal | None = None


# --- what an orchestrator delegates ----------------------------------------------------------------------------------


class RetrieveKnowledge(Payload):
    question: str
    role: str


class KnowledgeRetrieved(Payload):
    answer: str
    sources: list[Source]


class FindResult(Payload):
    """Look for a published governed result that answers the question."""

    question: str
    role: str


class ResultFound(Payload):
    question: str
    result: Result
    published_at: str
    approved_by: str
    grant_id: str


class GenerateCode(Payload):
    question: str


class CodeGenerated(Payload):
    """Checked code, not run. `tables` are the tables it reads, as schema.table."""

    question: str
    code: Code
    explanation: str
    tables: list[str]
    columns: list[str]


class Failed(Payload):
    """An agent could not do what it was asked, for a reason a person can act on."""

    rule: str
    reason: str


class Refused(Payload):
    """An agent must not do what it was asked."""

    rule: str
    reason: str


# --- governance and execution ----------------------------------------------------------------------------------------


class RequestExecution(Payload):
    """Ask governance to have this code run. The answer comes from whoever ends it: CodeRun, Refused or Failed."""

    question: str
    code: Code
    target: str | None = None


class DryRunCode(Payload):
    code: Code
    target: str | None = None


class CodeDryRun(Payload):
    """What the engine's EXPLAIN said. `digest` covers code, target, table versions, columns and plan."""

    code_sha256: str
    statement_class: str
    columns: list[str]
    table_versions: dict[str, int]
    plan: str
    digest: str


class ApprovalRequested(Payload):
    """Governance asks a person. Times are UTC microseconds."""

    approval_id: str
    requester: str
    question: str
    code: Code
    target: str | None
    digest: str
    plan: str
    rule: str
    expires_at: int


class Decide(Payload):
    """A person's decision on an approval; only the signature of the row says who that person is."""

    approval_id: str
    decision: Literal["approve", "reject"]
    digest: str
    reason: str = ""


class ApprovalDecided(Payload):
    approval_id: str
    decision: Literal["approved", "rejected", "expired"]
    actor: str
    reason: str = ""


class DecisionAnswered(Payload):
    """What became of a person's decision."""

    approval_id: str
    accepted: bool
    rule: str
    reason: str


class Grant(Payload):
    """Governance's permission for one effect. It is signed by being the content of a signed row from GovernanceAgent."""

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


class RunCode(Payload):
    """Run this once under this grant. `reply_to` is the agent that waits for the outcome."""

    grant: Grant
    question: str
    code: Code
    reply_to: str


class ExecutionClaimed(Payload):
    """The compare-and-set that makes a grant single use: committed before the effect starts."""

    grant_id: str
    requester: str
    question: str
    code: str
    target: str | None
    approved_by: str
    instance: str


class CodeRun(Payload):
    """The effect happened. `table_version` is the Delta version it wrote."""

    grant_id: str
    question: str
    code: str
    result: Result
    row_count: int
    requester: str
    approved_by: str


class ExecutionSettled(Payload):
    """The outcome of a claim, as an event."""

    grant_id: str
    step: Literal["done", "failed", "in_doubt"]
    requester: str
    question: str
    code: str
    target: str | None
    approved_by: str
    row_count: int | None = None
    table_version: int | None = None
    reason: str = ""


class ExpireApprovals(Payload):
    """The clock's message to governance: lapse what is overdue."""

    approval_id: str


# --- the bus itself --------------------------------------------------------------------------------------------------


class Receipt(Payload):
    """Said once for a message by an agent. The row's causation_id is the message; `handled_ms` its time in the handler."""

    outcome: Literal["handled", "rejected", "dead", "expired"]
    reason: str = ""
    attempts: int = 1
    handled_ms: float | None = None


class MessageExpired(Payload):
    """A message was not handled in time: `expires_at` (UTC microseconds) had passed when its turn came."""

    message_id: str
    message_kind: str
    sender: str
    agent: str
    expires_at: int


class AuditRecorded(Payload):
    """One fact for the auditor. Writer, sequence and previous are filled in by the bus as it commits."""

    action: str
    decision: Literal["allowed", "refused", "done", "failed"]
    rule: str = ""
    reason: str = ""
    details: dict[str, Any] = {}
    writer: str = ""
    sequence: int = 0
    previous: str = ""


class InstanceChanged(Payload):
    """An instance started, renewed its lease, stopped, or was ended by another that saw no renewal for its duration.

    `duration_ms`: how long the lease holds without a renewal. `number`: 0 as it starts, then counts renewals; `ended`
    names the newest it saw. `by`: who ended it. `subscribes`: event kinds its agent gets from here on. `seen`: the
    version up to which its writer had seen the leases of its agent. `busy`: messages under way at a renewal.
    """

    agent: str
    instance: str
    host: str
    engine: str
    step: Literal["started", "renewed", "stopped", "ended"]
    kinds: list[str]
    duration_ms: int = 0
    number: int = 0
    by: str | None = None
    subscribes: list[str] = []
    seen: int = -1
    busy: list[str] = []


KINDS: dict[str, type[Payload]] = {
    model.kind(): model
    for model in (
        Ask,
        Answered,
        RetrieveKnowledge,
        KnowledgeRetrieved,
        FindResult,
        ResultFound,
        GenerateCode,
        CodeGenerated,
        Failed,
        Refused,
        RequestExecution,
        DryRunCode,
        CodeDryRun,
        ApprovalRequested,
        Decide,
        ApprovalDecided,
        DecisionAnswered,
        RunCode,
        ExecutionClaimed,
        CodeRun,
        ExecutionSettled,
        ExpireApprovals,
        Receipt,
        MessageExpired,
        AuditRecorded,
        InstanceChanged,
    )
}
