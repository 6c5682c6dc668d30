"""A policy tried on recorded history: what governance decided then, and what it would decide by this policy."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from jobs.replay.history import History
from jobs.replay.request import ReplayRequest
from schemas.envelope import Message
from schemas.payloads import (
    KINDS,
    ApprovalGranted,
    ApprovalRequested,
    CodeDryRun,
    DryRunCode,
    Need,
    Payload,
    Refused,
    RequestApproval,
    RequestExecution,
    RunCode,
)
from schemas.tables import AGENT_MESSAGES
from workers.governance.agent import GovernanceAgent
from workers.governance.approvals import approvals
from workers.governance.matters import request_behind
from workers.governance.policy import PolicyEngine
from workers.runtime.base import Context, Received
from workers.runtime.clock import micros
from workers.runtime.replaying import Recording

if TYPE_CHECKING:
    from jobs.bootstrap import System

#: What a policy decides on; what governance does with other messages follows from these.
DECIDED_ON = (RequestExecution, RequestApproval, CodeDryRun)

#: `tried`: it came to a dry run, and no further.
Said = Literal["deny", "approve", "allow", "tried", "nothing"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Outcome:
    """What came of a request. `needs`: who had to say yes; None where that was not recorded yet."""

    effect: Said
    rule: str = ""
    reason: str = ""
    needs: tuple[Need, ...] | None = None

    def same_as(self, other: Outcome) -> bool:
        known = self.needs is not None and other.needs is not None
        return self.effect == other.effect and (not known or _counts(self) == _counts(other))

    def document(self) -> dict[str, Any]:
        needs = None if self.needs is None else [need.model_dump() for need in self.needs]
        return {"effect": self.effect, "rule": self.rule or None, "reason": self.reason or None, "needs": needs}


@dataclass(frozen=True)
class Trial:
    """One request, then and now. `people`: what became of the approval then; empty where nobody was asked."""

    message_id: str
    correlation_id: str
    at: datetime
    principal: str
    subject: str
    question: str
    statement: str
    then: Outcome
    now: Outcome
    people: str = ""
    from_archive: bool = False

    @property
    def verdict(self) -> Literal["same", "stricter", "looser", "other_people"]:
        if self.then.same_as(self.now):
            return "same"
        if self.then.effect == self.now.effect:
            return "other_people"
        return "stricter" if _STRICTNESS[self.now.effect] > _STRICTNESS[self.then.effect] else "looser"

    def document(self) -> dict[str, Any]:
        return {
            "message_id": self.message_id,
            "correlation_id": self.correlation_id,
            "at": self.at.isoformat(),
            "principal": self.principal,
            "subject": self.subject,
            "question": self.question,
            "statement": self.statement or None,
            "verdict": self.verdict,
            "then": {**self.then.document(), "people": self.people or None},
            "now": self.now.document(),
        }


_STRICTNESS: dict[Said, int] = {"allow": 0, "tried": 1, "nothing": 1, "approve": 2, "deny": 3}


@dataclass(frozen=True)
class TrialReport:
    """`digest` of the policy that was tried; `version` of the log that was read; `discarded_to` as in a ReplayReport."""

    digest: str
    version: int
    trials: Sequence[Trial]
    discarded_to: str | None = None

    @property
    def changes(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.verdict != "same"]

    @property
    def from_archive(self) -> int:
        return sum(trial.from_archive for trial in self.trials)

    @property
    def verdicts(self) -> Counter[str]:
        return Counter(trial.verdict for trial in self.trials)

    def document(self) -> dict[str, Any]:
        return {
            "policy": self.digest,
            "log_version": self.version,
            "requests": len(self.trials),
            "from_archive": self.from_archive,
            "discarded_to": self.discarded_to,
            "verdicts": dict(self.verdicts),
            "changes": [trial.document() for trial in self.changes],
        }


def try_policy(
    system: System,
    policy: PolicyEngine,
    since: str | None = None,
    until: str | None = None,
    progress: Progress = lambda done, total: None,
) -> TrialReport:
    """Roles and groups are today's; tables, plans and times are those that were recorded.

    Raises CannotReplay, or UnreadableArchive when an archive that is needed cannot be read.
    """
    log = system.log(AGENT_MESSAGES.name)
    accept = system.accept(log.check())
    request = ReplayRequest(since=since, until=until)
    history = History(log, accept, request, micros(system.clock.now()), frozenset({GovernanceAgent.name}))
    governance = _governance(system, policy)
    trials: list[Trial] = []
    for done, recording in enumerate(history.recordings(), 1):
        progress(done, history.total)
        if (trial := _try(governance, recording, accept)) is not None:
            trials.append(trial)
    return TrialReport(policy.digest, history.version, trials, history.discarded_to)


def _governance(system: System, policy: PolicyEngine) -> GovernanceAgent:
    settings = system.settings
    return GovernanceAgent(system.roles, policy, settings.env, reads_of=system.lineage.reads)


def _try(governance: GovernanceAgent, recording: Recording, accept: Callable[[Message], bool]) -> Trial | None:
    model = KINDS.get(recording.message.kind)
    if model not in DECIDED_ON or recording.said.outcome != "handled":
        return None
    # What nobody signed is not what governance saw.
    known = [row for row in recording.known if accept(row)]
    message = recording.message
    if not known or message.message_id not in {row.message_id for row in known}:
        return None
    if model is RequestExecution and any(
        request_behind(row, _rows(recording)) == message for row in _dry_runs(recording)
    ):
        return None  # decided on when its dry run was there
    then = outcome_of(_payload(row) for row in recording.outputs)
    if then.effect == "nothing":
        return None
    payload = model.model_validate_json(message.content)
    at = datetime.fromtimestamp(recording.began / 1_000_000, UTC)
    context = Context(known, known[0].principal, at, "trial", message.attempt, _never)
    outputs = asyncio.run(governance.handle(Received(message, payload), context))
    now = outcome_of(output.payload for output in outputs)
    return Trial(
        message_id=message.message_id,
        correlation_id=message.correlation_id,
        at=at,
        principal=known[0].principal or "",
        then=then,
        now=now,
        people=_people(recording),
        from_archive=recording.from_archive,
        **_about(payload, message, known),
    )


async def _never(outputs: Sequence[object]) -> bool:
    return False


def outcome_of(payloads: Iterable[Payload | None]) -> Outcome:
    """What governance said, by what it sent."""
    for payload in payloads:
        match payload:
            case Refused():
                return Outcome("deny", payload.rule, payload.reason)
            case ApprovalRequested():
                return Outcome("approve", payload.rule, needs=tuple(payload.needs) or None)
            case RunCode() | ApprovalGranted():
                return Outcome("allow", payload.grant.rule)
            case DryRunCode():
                return Outcome("tried")
    return Outcome("nothing")


def _payload(row: Message) -> Payload | None:
    model = KINDS.get(row.kind)
    return model.model_validate_json(row.content) if model in _TELLING else None


_TELLING = (Refused, ApprovalRequested, RunCode, ApprovalGranted, DryRunCode)


def _rows(recording: Recording) -> list[Message]:
    return [row for row in recording.rows if row.message_type != "receipt"]


def _dry_runs(recording: Recording) -> list[Message]:
    return [row for row in _rows(recording) if row.kind == CodeDryRun.kind()]


def _about(payload: Payload, message: Message, known: Sequence[Message]) -> dict[str, str]:
    if isinstance(payload, RequestApproval):
        return {"subject": payload.subject, "question": payload.name, "statement": ""}
    if isinstance(payload, RequestExecution):
        return {"subject": "execution", "question": payload.question, "statement": payload.code.language}
    assert isinstance(payload, CodeDryRun)
    origin = request_behind(message, known)
    asked = RequestExecution.model_validate_json(origin.content) if origin is not None else None
    words = [payload.statement_class, asked.code.language if asked else "", payload.writes or ""]
    return {
        "subject": "execution",
        "question": asked.question if asked else "",
        "statement": " ".join(word for word in words if word),
    }


def _people(recording: Recording) -> str:
    """What became of the approval that this handling asked for."""
    asked = [row for row in recording.outputs if row.kind == ApprovalRequested.kind()]
    if not asked:
        return ""
    approval = approvals(_rows(recording)).get(ApprovalRequested.model_validate_json(asked[0].content).approval_id)
    if approval is None or approval.decided is None:
        return "pending"
    by = ", ".join(approval.decided.actors or [approval.decided.actor])
    return (
        approval.decided.decision if approval.decided.decision == "expired" else f"{approval.decided.decision} by {by}"
    )


def _counts(outcome: Outcome) -> dict[str, int]:
    return {need.group: need.count for need in outcome.needs or ()}
