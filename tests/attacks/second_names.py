"""The requester who approves under another name, and others who vote as somebody they are not."""

from __future__ import annotations

from typing import Any

from schemas.payloads import Delegate, RequestApproval
from tests.attacks.arena import Arena
from tests.attacks.forged_approvals import yes
from tests.attacks.table import Attempt, attack
from tests.fakes import policy_of
from workers.governance.approvals import Approval
from workers.governance.policy import PolicyEngine

CLASS = "second-name"


async def voted(arena: Arena, user: str, approval: Approval, **changed: Any) -> Attempt:
    await arena.handled(arena.decide(user, approval, **changed))
    return arena.outcome()


async def lent(arena: Arena, lender: str, borrower: str, hours: float = 1) -> None:
    until = arena.now + round(hours * 3.6e9)
    row = arena.client(lender).send("GovernanceAgent", Delegate(to_user=borrower, until=until, reason="away"))
    await arena.handled(row)


def two_of(group: str = "admin") -> PolicyEngine:
    """Two people of one group."""
    return policy_of(
        {
            "id": "execution.two",
            "effect": "approve",
            "reason": "two people",
            "when": {"subject": ["execution"], "classes": ["read", "create"]},
            "approval": {"needs": [{"group": group, "count": 2}]},
        }
    )


def documents() -> PolicyEngine:
    return policy_of(
        {
            "id": "documents.other_eyes",
            "effect": "approve",
            "reason": "another person reads it",
            "when": {"subject": ["document"]},
            "approval": {"needs": [{"group": "knowledge_curator", "count": 1}]},
        }
    )


@attack(
    CLASS,
    "the requester says yes to what they asked for",
    guard="four eyes",
    rule="approval.own_request",
    without="four eyes",
)
async def plainly(arena: Arena) -> Attempt:
    _, approval = await arena.pending_request("ada")
    return await voted(arena, "ada", approval)


@attack(
    CLASS,
    "the requester votes for an absent approver who lent them the right",
    guard="four eyes",
    rule="approval.own_request",
)
async def with_a_borrowed_right(arena: Arena) -> Attempt:
    await lent(arena, "ada", "eli")
    _, approval = await arena.pending_request("eli")
    return await voted(arena, "eli", approval, for_user="ada")


@attack(
    CLASS,
    "an approver asks, lends the right to another, who votes in their name",
    guard="four eyes",
    rule="approval.own_request",
)
async def through_a_delegate(arena: Arena) -> Attempt:
    await lent(arena, "ada", "ned")
    _, approval = await arena.pending_request("ada")
    return await voted(arena, "ned", approval, for_user="ada")


@attack(CLASS, "a borrowed right is lent on, to the requester's friend", guard="no chains", rule="delegation.none")
async def through_a_chain(arena: Arena) -> Attempt:
    await lent(arena, "ada", "ned")
    await lent(arena, "ned", "bob")
    _, approval = await arena.pending_request("eli")
    return await voted(arena, "bob", approval, for_user="ada")


@attack(CLASS, "a right that was lent for an hour, used after two", guard="delegation", rule="delegation.none")
async def with_a_right_that_is_over(arena: Arena) -> Attempt:
    await lent(arena, "ada", "ned", hours=1)
    arena.clock.advance(7200)
    _, approval = await arena.pending_request("eli")
    return await voted(arena, "ned", approval, for_user="ada")


@attack(CLASS, "somebody lends themselves the right of another", guard="signatures", rule="")
async def with_a_right_one_lent_oneself(arena: Arena) -> Attempt:
    said = Delegate(to_user="ned", until=arena.now + 10**10, reason="")
    row = arena.row("user:ada", "GovernanceAgent", said, arena.client("ned").send("Nobody", said))
    arena.write(row)
    await arena.handled(row)
    _, approval = await arena.pending_request("eli")
    return await voted(arena, "ned", approval, for_user="ada")


@attack(CLASS, "one person, in two spellings", guard="keys", rule="")
async def in_another_spelling(arena: Arena) -> Attempt:
    _, approval = await arena.pending_request("ada")
    row = arena.row("user:ada", "GovernanceAgent", yes(approval), approval.message)
    for n, name in enumerate(("user:Ada", "user:ada ", "user:аda", "user:ada\u200b", "User:ada")):  # noqa: RUF001  # look-alikes
        try:
            changed = row.model_copy(update={"message_id": f"spelled-{n}", "from_agent": name, "principal": name[5:]})
            arena.write(changed)
        except ValueError:
            continue
    await arena.quiet()
    return arena.outcome()


@attack(
    CLASS,
    "two yeses of one person, where two people are needed",
    guard="one place each",
    rule="approval.voted",
    policy=two_of,
)
async def twice(arena: Arena) -> Attempt:
    _, approval = await arena.pending_request("eli")
    await arena.handled(arena.decide("ada", approval))
    return await voted(arena, "ada", approval)


@attack(
    CLASS,
    "one's own yes, and one for a colleague who lent the right: one person, where two are needed",
    guard="one place each",
    rule="approval.voted",
    policy=two_of,
)
async def twice_with_a_borrowed_right(arena: Arena) -> Attempt:
    await lent(arena, "bea", "ada")
    _, approval = await arena.pending_request("eli")
    await arena.handled(arena.decide("ada", approval))
    return await voted(arena, "ada", approval, for_user="bea")


@attack(CLASS, "a bot that was given a person's rights", guard="people only", rule="approval.bot")
async def as_a_bot(arena: Arena) -> Attempt:
    _, approval = await arena.pending_request("eli")
    return await voted(arena, "rob", approval)


@attack(CLASS, "an agent that decides", guard="people only", rule="approval.not_a_person")
async def as_an_agent(arena: Arena) -> Attempt:
    _, approval = await arena.pending_request("eli")
    row = arena.say("CodeAgent", "GovernanceAgent", yes(approval), approval.message, message_type="request")
    await arena.handled(row)
    return arena.outcome()


@attack(CLASS, "the name of a group or a role as a voter", guard="keys", rule="signature.missing")
async def as_a_group(arena: Arena) -> Attempt:
    _, approval = await arena.pending_request("eli")
    row = arena.row("user:admin", "GovernanceAgent", yes(approval), approval.message)
    arena.write(row)
    await arena.handled(row)
    return arena.outcome()


@attack(CLASS, "the right of whoever has none is borrowed", guard="roles", rule="")
async def with_the_right_of_nobody(arena: Arena) -> Attempt:
    await lent(arena, "ana", "ned")
    _, approval = await arena.pending_request("eli")
    return await voted(arena, "ned", approval, for_user="ana")


@attack(
    CLASS,
    "a document's author approves it",
    guard="four eyes",
    rule="approval.own_request",
    policy=documents,
)
async def of_ones_own_document(arena: Arena) -> Attempt:
    said = RequestApproval(subject="document", name="bonus.md", digest="0" * 64, summary="who gets a bonus")
    asked = arena.client("kim").send("GovernanceAgent", said)
    approval = await arena.pending(asked)
    await arena.handled(arena.decide("kim", approval))
    granted = [row for row in arena.all_rows() if row.kind == "ApprovalGranted"]
    return Attempt(bool(granted), arena.refusals())
