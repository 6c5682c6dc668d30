"""Delegations: who lends whom the right to decide, for a time; a fold of governance's own events."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from schemas.envelope import USER, Message
from schemas.payloads import Delegate, DelegationAnswered, DelegationChanged, EndDelegation
from workers.governance.approvals import AUTHORITY
from workers.ports import Roles, UnknownUser
from workers.runtime.base import Context, Outgoing, Received, audit, event, reply
from workers.runtime.clock import micros

#: Longest time a right may be lent at once, in seconds. It also bounds how far back the log is read for delegations.
LONGEST_S = 31 * 86_400

#: (log_version, seq): a place in the log.
Position = tuple[int, int]


@dataclass(frozen=True)
class Delegation:
    """`from_user` lends `to_user` the right to decide. Times are UTC microseconds; `until` is earlier once it was ended."""

    id: str
    from_user: str
    to_user: str
    since: int
    until: int
    reason: str = ""

    def holds(self, now: int) -> bool:
        return self.since <= now < self.until

    def held(self, since: int, now: int) -> bool:
        """At some time between the two."""
        return self.since <= now and since < self.until


class Delegations(Protocol):
    """The delegations that the log holds."""

    def as_of(self, position: Position) -> Sequence[Delegation]:
        """All that were said before this place, the ended ones too. The log decides what came first, not a clock."""
        ...


class NoDelegations:
    """Where nobody can delegate."""

    def as_of(self, position: Position) -> Sequence[Delegation]:
        return []


def delegations(rows: Iterable[Message]) -> list[Delegation]:
    """All delegations these valid rows speak of, in the order they began."""
    found: dict[str, Delegation] = {}
    for row in rows:
        if row.from_agent != AUTHORITY or row.message_type != "event" or row.kind != DelegationChanged.kind():
            continue
        said = DelegationChanged.model_validate_json(row.content)
        known = found.get(said.delegation_id)
        if known is not None:
            found[known.id] = replace(known, until=min(known.until, said.until))
        else:
            found[said.delegation_id] = Delegation(
                said.delegation_id, said.from_user, said.to_user, row.timestamp, said.until, said.reason
            )
    return list(found.values())


def delegate(asked: Delegate, message: Received, context: Context, roles: Roles) -> list[Outgoing]:
    """Lend the right to decide: one's own, never one that was lent."""
    owner = person(message)
    rule, reason = _may_delegate(owner, asked, context, roles)
    delegation_id = f"dlg-{uuid.uuid5(uuid.NAMESPACE_OID, message.message.message_id).hex[:12]}"
    answer = DelegationAnswered(delegation_id=delegation_id, accepted=not rule, rule=rule or RULE, reason=reason)
    facts = {"delegation_id": delegation_id, "from_user": owner, "to_user": asked.to_user, "until": asked.until}
    if rule:
        return [audit("delegation.refused", "refused", rule=rule, reason=reason, **facts), reply(message, answer)]
    changed = DelegationChanged(
        delegation_id=delegation_id, from_user=owner, to_user=asked.to_user, until=asked.until, reason=asked.reason
    )
    return [
        event(changed),
        audit("delegation.begun", "allowed", rule=RULE, reason=reason, said=asked.reason, **facts),
        reply(message, answer),
    ]


RULE = "delegation.own_right"


def _may_delegate(owner: str, asked: Delegate, context: Context, roles: Roles) -> tuple[str, str]:
    """The rule that refuses it, or "", and the reason."""
    now = micros(context.now)
    if not owner:
        return "delegation.not_a_person", "only a person may lend the right to decide"
    if asked.to_user == owner:
        return "delegation.oneself", "nobody delegates to themselves"
    for user in (owner, asked.to_user):
        try:
            roles.role_of(user)
        except UnknownUser as error:
            return "delegation.unknown_user", str(error)
        if roles.is_bot(user):
            return "delegation.bot", f"{user} is a bot, which may propose and never decide"
    if asked.until <= now:
        return "delegation.over", "its end is not in the future"
    if asked.until > now + LONGEST_S * 1_000_000:
        return "delegation.too_long", f"a right is lent for {LONGEST_S // 86_400} days at most; delegate again then"
    return "", f"{asked.to_user} may decide in {owner}'s name"


def end(asked: EndDelegation, message: Received, context: Context, roles: Roles, known: Delegations) -> list[Outgoing]:
    """Take back what was lent, or give it back."""
    actor = person(message)
    now = micros(context.now)
    found = next((one for one in known.as_of(message.message.position) if one.id == asked.delegation_id), None)
    rule, reason = "", f"{asked.delegation_id} is over"
    if found is None:
        rule, reason = "delegation.unknown", f"there is no delegation {asked.delegation_id}"
    elif actor not in (found.from_user, found.to_user) and not (actor and roles.allows(actor, "agents.manage")):
        rule, reason = (
            "delegation.other",
            f"it is between {found.from_user} and {found.to_user}; one of them may end it",
        )
    elif not found.holds(now):
        rule, reason = "delegation.over", "it is over already"
    answer = DelegationAnswered(
        delegation_id=asked.delegation_id, accepted=not rule, rule=rule or "delegation.ended", reason=reason
    )
    facts = {"delegation_id": asked.delegation_id, "actor": actor}
    if rule or found is None:
        return [audit("delegation.refused", "refused", rule=rule, reason=reason, **facts), reply(message, answer)]
    changed = DelegationChanged(
        delegation_id=found.id, from_user=found.from_user, to_user=found.to_user, until=now, reason=found.reason
    )
    return [
        event(changed),
        audit("delegation.ended", "allowed", rule=answer.rule, reason=reason, **facts),
        reply(message, answer),
    ]


def person(message: Received) -> str:
    """Who signed this, or "" when it was no person."""
    return message.sender.removeprefix(USER) if message.sender.startswith(USER) else ""
