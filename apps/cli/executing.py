"""A person's word on an execution, in the person's own name: to end it, or to say what became of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apps.cli.effects import EXECUTOR, Effect
from apps.cli.session import speaking_as

if TYPE_CHECKING:
    from jobs.bootstrap import System
    from schemas.payloads import Payload


@dataclass(frozen=True)
class Word:
    """What became of it. `accepted` None: it is in the log, and execution has not answered yet."""

    grant_id: str
    correlation_id: str
    message_id: str
    accepted: bool | None
    rule: str
    reason: str


def cancel(system: System, user: str, effect: Effect, reason: str, timeout: float = 60.0) -> Word:
    """In a conversation of its own: that of the execution is busy with it."""
    from schemas.payloads import CancelExecution

    return _say(system, user, effect, CancelExecution(grant_id=effect.grant_id, reason=reason), timeout, priority=10)


def settle(system: System, user: str, effect: Effect, outcome: str, reason: str, timeout: float = 60.0) -> Word:
    """In the conversation of the execution, whose order decides between two who settle at once."""
    from schemas.payloads import SettleExecution

    said = {"grant_id": effect.grant_id, "outcome": outcome, "reason": reason}
    about = {"correlation_id": effect.correlation_id, "causation_id": effect.claim.message_id}
    return _say(system, user, effect, SettleExecution.model_validate(said), timeout, **about)


def _say(system: System, user: str, effect: Effect, said: Payload, timeout: float, **envelope: Any) -> Word:
    from bus.errors import TimedOut
    from jobs.liveness import running

    with speaking_as(system, user) as client, client.listen() as arrivals:
        sent = client.send(EXECUTOR, said, **envelope)
        accepted, rule, why = None, "", ""
        if EXECUTOR in running(system.home):
            try:
                answer = json.loads(arrivals.response_to(sent.message_id, timeout).content)
                accepted, rule, why = bool(answer.get("accepted")), answer.get("rule", ""), answer.get("reason", "")
            except TimedOut:
                why = f"execution did not answer within {timeout:g} s"
        else:
            why = "execution does not run; it answers as soon as it does"
    return Word(effect.grant_id, sent.correlation_id, sent.message_id, accepted, rule, why)
