"""Redriving: a message that was given up is delivered once more, as it was, because somebody who may said so.

A redriven message is a row of its own: its id is made of what it repeats, its cause is that message, its `attempt` one
higher, and whoever redrives signs it. It repeats; it says nothing new. So its handler gets the message that was given
up, with the sender who signed that one and the rights of whoever began the conversation, and the answer goes to whoever
asked. All that a redriver decides is that it is delivered again, which is why nobody gains or loses rights by it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

from schemas.envelope import EVERYONE, USER, Message, is_user

#: Whether this user may redrive everybody's messages.
MayRedrive = Callable[[str], bool]

#: Fact of an agent that gave a message up -> the outcome that its receipt says.
GIVEN_UP = {"message.dead": "dead", "message.rejected": "rejected", "message.expired": "expired"}
#: What may redrive everybody's messages.
PERMISSION = "agents.manage"


class NotRedriven(Exception):
    """This is no redriven message, or nobody was allowed to redrive it; `rule` names the check that failed."""

    def __init__(self, rule: str, reason: str) -> None:
        self.rule, self.reason = rule, reason
        super().__init__(f"{rule}: {reason}")


def redriven_id(message: Message, agent: str) -> str:
    """The only id under which this message can be redriven to this agent: a second redrive is the same row."""
    said = f"{message.message_id}/{agent}/{message.attempt + 1}"
    return f"redrive-{hashlib.sha256(said.encode()).hexdigest()[:32]}"


def redriven(message: Message, agent: str, user: str, now: int) -> Message:
    """The row that has this message delivered to this agent again."""
    return Message(
        message_id=redriven_id(message, agent),
        correlation_id=message.correlation_id,
        causation_id=message.message_id,
        from_agent=USER + user,
        to_agent=agent,
        message_type=message.message_type,
        kind=message.kind,
        schema_version=message.schema_version,
        content=message.content,
        priority=message.priority,
        timestamp=now,
        attempt=message.attempt + 1,
        principal=user,
        traceparent=message.traceparent,
    )


def original_of(message: Message, agent: str, conversation: Sequence[Message], everybody_s: MayRedrive) -> Message:
    """The message that is delivered again, as its sender signed it.

    `conversation`: rows that are signed by whom they name, root first. Raises NotRedriven.
    """
    by_id = {row.message_id: row for row in conversation}
    original, outcome = message, ""
    while original is message or original.attempt > 1:  # every link: somebody without the right may have forged one
        repeated = by_id.get(original.causation_id or "")
        if repeated is None:
            raise NotRedriven("redrive.unknown", f"this conversation holds no {original.causation_id} to redrive")
        if not _repeats(original, repeated, agent):
            raise NotRedriven("redrive.altered", f"{original.message_id} is not {repeated.message_id} once more")
        outcome = given_up(repeated, agent, conversation) or ""
        if not outcome:
            raise NotRedriven("redrive.not_given_up", f"{agent} has not given {repeated.message_id} up")
        original = repeated
    check_right(message.from_agent, original, outcome, conversation[0].principal, everybody_s)
    return original


def _repeats(message: Message, repeated: Message, agent: str) -> bool:
    """Whether it says nothing that the other did not, to the agent that gave the other up."""
    return (
        message.message_id == redriven_id(repeated, agent)
        and (message.kind, message.content, message.message_type, message.schema_version)
        == (repeated.kind, repeated.content, repeated.message_type, repeated.schema_version)
        and message.attempt == repeated.attempt + 1
        and repeated.to_agent in (agent, EVERYONE)
    )


def given_up(message: Message, agent: str, conversation: Sequence[Message]) -> str | None:
    """The outcome with which this agent gave a message up; None when it has not."""
    for row in conversation:
        if row.kind == "AuditRecorded" and row.causation_id == message.message_id and row.from_agent == agent:
            try:
                action = json.loads(row.content).get("action")
            except (ValueError, AttributeError, RecursionError):
                continue
            if action in GIVEN_UP:
                return GIVEN_UP[action]
    return None


def check_right(redriver: str, original: Message, outcome: str, principal: str | None, everybody_s: MayRedrive) -> None:
    """Whether this sender may have `original` delivered again. Raises NotRedriven.

    A third person's word, such as an approval, is repeated by that person only; and so is what a person wanted to have
    done by a certain time.
    """
    user = redriver.removeprefix(USER)
    if not is_user(redriver) or (user != principal and not everybody_s(user)):
        raise NotRedriven(
            "redrive.right", f"only {principal}, or who has {PERMISSION}, may redrive in {principal}'s conversation"
        )
    if not is_user(original.from_agent) or original.from_agent == redriver:
        return
    if original.from_agent != USER + (principal or ""):
        raise NotRedriven("redrive.others_word", f"only {original.from_agent.removeprefix(USER)} may say this again")
    if outcome == "expired":
        raise NotRedriven(
            "redrive.expired", f"{principal} wanted it by a certain time; only {principal} may say it again"
        )
