"""Two who use one grant, and one who uses it in the middle of a change."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from schemas.envelope import Message
from schemas.payloads import Decide, RevokeGrant, RunCode
from tests.attacks.arena import Arena
from tests.attacks.grants import approved_and_not_run, ordered
from tests.attacks.table import ATTACKS, Attack, Attempt, attack
from workers.execution.agent import ExecutionAgent
from workers.governance.agent import GovernanceAgent

CLASS = "race"


async def executors(arena: Arena, count: int) -> None:
    """Beside the one that is there already, each a host of its own."""
    for _ in range(count):
        await arena.host(*[worker for worker in arena.workers() if isinstance(worker, ExecutionAgent)])


def orders(arena: Arena, run: RunCode, cause: Message, count: int) -> list[Message]:
    return [
        arena.say("GovernanceAgent", "ExecutionAgent", run, cause, message_type="request", message_id=f"order-{n}")
        for n in range(count)
    ]


def several_executors(count: int, sent: int, without: str | None) -> Attack:
    async def attempt(arena: Arena) -> Attempt:
        asked, run = await approved_and_not_run(arena)
        before = len(arena.engine.ran)
        await executors(arena, count - 1)
        await arena.handled(*orders(arena, run, asked, sent))
        return arena.outcome(effects=before + 1)

    does = f"{sent} orders under one grant to {count} executors"
    name = f"{CLASS}/{count}-executors-{sent}-orders"
    return Attack(name, CLASS, does, "claims", "grant.used" if sent > 1 else "", attempt, without if sent > 1 else None)


ATTACKS += [
    several_executors(1, 2, "claims"),
    several_executors(2, 2, "claims"),
    several_executors(2, 5, None),
    several_executors(3, 3, None),
    several_executors(4, 8, None),
    several_executors(2, 1, None),
]


@attack(
    CLASS, "two approvals of one request at the same moment", guard="one approval, one grant", rule="approval.decided"
)
async def two_yeses_at_once(arena: Arena) -> Attempt:
    asked, approval = await arena.pending_request()
    rows = [arena.decide(user, approval) for user in ("ada", "bea")]
    await arena.handled(*rows)
    await arena.answer(asked)
    return arena.outcome(effects=1)


@attack(CLASS, "a yes and a no at the same moment: one of them counts", guard="one decision", rule="approval.decided")
async def yes_and_no_at_once(arena: Arena) -> Attempt:
    _, approval = await arena.pending_request()
    await arena.handled(arena.decide("ada", approval, "reject"), arena.decide("bea", approval))
    return arena.outcome()


@attack(CLASS, "two governance instances decide on one approval", guard="receipts", rule="")
async def two_governances(arena: Arena) -> Attempt:
    await arena.host(*[worker for worker in arena.workers() if isinstance(worker, GovernanceAgent)])
    asked, approval = await arena.pending_request()
    await arena.handled(arena.decide("ada", approval))
    await arena.answer(asked)
    return arena.outcome(effects=1)


@attack(CLASS, "a grant is used in the moment it is revoked: the log says which came first", guard="claims", rule="")
async def used_while_it_is_revoked(arena: Arena) -> Attempt:
    asked, run = await approved_and_not_run(arena)
    before = len(arena.engine.ran)
    revoke = arena.client("ada").send(
        "GovernanceAgent", RevokeGrant(grant_id=run.grant.grant_id), correlation_id=asked.correlation_id
    )
    attempt = await ordered(arena, run, asked)
    await arena.handled(revoke)
    revoked = [row for row in arena.all_rows() if row.kind == "GrantRevoked"]
    ran = len(arena.engine.ran) > before
    return Attempt(ran and bool(revoked), attempt.rules)


@attack(
    CLASS, "the tables move between the approval and the run", guard="dry run's digest", rule="grant.dry_run_changed"
)
async def tables_that_move(arena: Arena) -> Attempt:
    asked, run = await approved_and_not_run(arena)
    arena.engine.moved = True
    return await ordered(arena, run, asked)


@attack(CLASS, "the grant expires between the approval and the run", guard="executor's own check", rule="grant.expired")
async def a_grant_that_expires(arena: Arena) -> Attempt:
    asked, run = await approved_and_not_run(arena)
    arena.clock.advance(86_400)
    return await ordered(arena, run, asked)


@attack(CLASS, "the approval expires in the moment it is given", guard="expiry", rule="approval.expired")
async def an_approval_that_expires(arena: Arena) -> Attempt:
    _, approval = await arena.pending_request()
    arena.clock.advance(86_400)
    await arena.handled(arena.decide("ada", approval))
    return arena.outcome()


@attack(CLASS, "one yes, sent thirty times at once", guard="one approval, one grant", rule="approval.decided")
async def many_yeses(arena: Arena) -> Attempt:
    asked, approval = await arena.pending_request()
    said = Decide(approval_id=approval.id, decision="approve", digest=approval.requested.digest)
    rows: Sequence[Message] = await asyncio.gather(
        *(
            asyncio.to_thread(arena.as_user, "ada", "GovernanceAgent", said, approval.message, message_id=f"yes-{n}")
            for n in range(30)
        )
    )
    await arena.handled(*rows)
    await arena.answer(asked)
    return arena.outcome(effects=1)
