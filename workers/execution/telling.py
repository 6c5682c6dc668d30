"""What execution says of a grant: the claim, the outcome, facts for the auditor, and an answer for whoever waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schemas.envelope import EVERYONE, Message
from schemas.payloads import ExecutionClaimed, ExecutionSettled, Failed, Payload, Refused, RequestExecution, RunCode
from workers.execution.grants import AUTHORITY
from workers.execution.limits import storable
from workers.runtime.base import Outgoing, audit


class Telling:
    """Speaks of one RunCode. Everything it says follows from that message, whichever message made us look at it."""

    def __init__(self, run: RunCode, message: Message, conversation: Sequence[Message] = ()) -> None:
        self.run = run
        self._cause = message.message_id
        #: Whoever waits gets an answer to what they asked, not to what governance made of it.
        self._asked = _asked_by(run, conversation) or message.message_id

    def claimed(self, instance: str, process: str) -> Outgoing:
        return self._event(ExecutionClaimed(**self._base, instance=instance, process=process))

    def settled(self, step: str, **outcome: Any) -> Outgoing:
        if "reason" in outcome:
            outcome["reason"] = storable(outcome["reason"])
        return self._event(ExecutionSettled.model_validate(self._base | outcome | {"step": step}))

    def answer(self, payload: Payload) -> Outgoing:
        return Outgoing(self.run.reply_to, payload, "response", causation_id=self._asked)

    def fact(self, action: str, decision: Any, rule: str = "", reason: str = "", **details: object) -> Outgoing:
        return audit(
            action,
            decision,
            rule=rule,
            reason=storable(reason),
            causation_id=self._cause,
            grant=self.run.grant.grant_id,
            **details,
        )

    def refused(self, rule: str, reason: str) -> list[Outgoing]:
        reason = storable(reason)
        return [
            self.fact("grant.refused", "refused", rule, reason),
            self.answer(Refused(rule=rule, reason=reason)),
        ]

    def sent_back(self, rule: str, reason: str) -> list[Outgoing]:
        """To governance, not to whoever waits: it may have it tried, and approved, once more."""
        reason = storable(reason)
        refused = Refused(rule=rule, reason=reason)
        return [
            self.fact("grant.refused", "refused", rule, reason),
            Outgoing(AUTHORITY, refused, "response", causation_id=self._cause),
        ]

    def failed(self, rule: str, reason: str, action: str = "execution.failed", **details: object) -> list[Outgoing]:
        reason = storable(reason)
        return [
            self.fact(action, "failed", rule, reason, **details),
            self.answer(Failed(rule=rule, reason=reason)),
        ]

    @property
    def _base(self) -> dict[str, Any]:
        grant = self.run.grant
        return {
            "grant_id": grant.grant_id,
            "requester": grant.requester,
            "question": self.run.question,
            "code": self.run.code.text,
            "target": grant.target,
            "approved_by": grant.approved_by,
            "undoes": grant.undoes,
        }

    def _event(self, payload: Payload) -> Outgoing:
        return Outgoing(EVERYONE, payload, "event", causation_id=self._cause)


def _asked_by(run: RunCode, conversation: Sequence[Message]) -> str | None:
    """The message that asked for this execution, of the one who waits for its outcome."""
    for message in reversed(conversation):
        if message.kind == RequestExecution.kind() and message.from_agent == run.reply_to:
            asked = RequestExecution.model_validate_json(message.content)
            if (asked.code, asked.target) == (run.code, run.grant.target):
                return message.message_id
    return None
