"""A grant that was given for something else: every field of it is changed, and every place it could be taken to is tried."""

from __future__ import annotations

from typing import Any

from schemas.envelope import Message
from schemas.payloads import Code, Grant, RunCode
from tests.attacks.arena import Arena
from tests.attacks.table import ATTACKS, Attack, Attempt, attack
from tests.fakes import eventually
from workers.execution.grants import code_sha256

CLASS = "grant-for-another"
OTHER = "SELECT c_acctbal FROM tpch.customer"


async def executed(arena: Arena, user: str = "eli") -> tuple[Message, RunCode]:
    """A request that ada approved and that has run: its grant is used."""
    asked, approval = await arena.pending_request(user)
    await arena.handled(arena.decide("ada", approval))
    await arena.answer(asked)
    return asked, await arena.order(asked)


async def approved_and_not_run(arena: Arena) -> tuple[Message, RunCode]:
    """An order that governance has signed, and that this test holds back from the executor: its grant is good and unused."""
    asked, run = await executed(arena)
    fresh = run.grant.model_copy(update={"grant_id": "grant-fresh"})
    return asked, run.model_copy(update={"grant": fresh})


async def ordered(arena: Arena, run: RunCode, cause: Message, sender: str = "GovernanceAgent") -> Attempt:
    """`sender` orders it with its own key; whatever ran before does not count."""
    before = len(arena.engine.ran)
    row = arena.say(sender, "ExecutionAgent", run, cause, message_type="request", message_id="order")
    await arena.handled(row)
    return arena.outcome(effects=before)


def changed_field(name: str, rule: str, what: str, without: str | None = None, **changes: Any) -> None:
    """Governance itself would sign it: what a compromised governance can do is held by the executor's own look."""

    async def attempt(arena: Arena) -> Attempt:
        asked, run = await approved_and_not_run(arena)
        grant = run.grant.model_copy(update={key: value for key, value in changes.items() if key in Grant.model_fields})
        code = changes.get("code", run.code)
        return await ordered(arena, run.model_copy(update={"grant": grant, "code": code}), asked)

    ATTACKS.append(Attack(f"{CLASS}/{name}", CLASS, what, "executor's own check", rule, attempt, without))


_CODE = Code(language="sql", text=OTHER)
changed_field("other-code", "grant.code", "other code under the grant", "grant check", code=_CODE)
changed_field(
    "other-code-and-digest",
    "grant.approval",
    "other code, and its own hash in the grant",
    "grant check",
    code=_CODE,
    code_sha256=code_sha256(OTHER),
)
changed_field("other-dialect", "grant.code", "the same text as Python", dialect="python")
changed_field(
    "other-target", "grant.approval", "the same code into another table", "grant check", target="results.other"
)
changed_field("other-requester", "grant.requester", "the grant of another person", requester="ned")
changed_field("other-approver", "grant.approval", "an approver who said nothing", approved_by="bea", approvers=["bea"])
changed_field("no-approval", "grant.approval", "no approval at all, by the policy", approval_id=None)
changed_field(
    "by-the-policy",
    "grant.approval",
    "by the policy, though people were asked",
    approval_id=None,
    approved_by="policy",
    approvers=[],
    policy="0" * 64,
)
changed_field("other-approval", "grant.approval", "the approval of another request", approval_id="apr-other")
changed_field("other-dry-run", "grant.approval", "another dry run's digest", dry_run_digest="0" * 64)
changed_field("other-environment", "grant.environment", "a grant for production, used in test", environment="prod")
changed_field(
    "own-approval", "grant.four_eyes", "requester and approver in one person", approved_by="eli", approvers=["eli"]
)
changed_field("expired", "grant.expired", "a grant whose time is over", expires_at=0)
changed_field("more-drift", "grant.drift", "more drift than was approved", table_drift=100)
changed_field("other-subject", "grant.subject", "the approval of a document", subject="document")


@attack(CLASS, "a used grant once more, in the same conversation", guard="claims", rule="grant.used")
async def used_twice(arena: Arena) -> Attempt:
    asked, run = await executed(arena)
    return await ordered(arena, run, asked)


@attack(
    CLASS, "a good grant in the conversation of another person", guard="executor's own check", rule="grant.requester"
)
async def in_anothers_conversation(arena: Arena) -> Attempt:
    _, run = await approved_and_not_run(arena)
    other = arena.ask("ned")
    await eventually(lambda: arena.rows(other, "ApprovalRequested"))
    return await ordered(arena, run, other)


@attack(
    CLASS,
    "a good grant in a later conversation of the same person",
    guard="executor's own check",
    rule="grant.approval",
)
async def in_a_later_conversation(arena: Arena) -> Attempt:
    _, run = await approved_and_not_run(arena)
    later, _ = await arena.pending_request()
    return await ordered(arena, run, later)


@attack(CLASS, "an order by an agent that is not governance", guard="executor's own check", rule="grant.issuer")
async def ordered_by_another_agent(arena: Arena) -> Attempt:
    asked, run = await approved_and_not_run(arena)
    return await ordered(arena, run, asked, sender="CodeAgent")


@attack(CLASS, "an order in governance's name without its key", guard="signatures", rule="signature.missing")
async def ordered_without_a_key(arena: Arena) -> Attempt:
    asked, run = await approved_and_not_run(arena)
    before = len(arena.engine.ran)
    row = arena.forge("GovernanceAgent", "ExecutionAgent", run, asked, message_type="request", message_id="order")
    await arena.handled(row)
    return arena.outcome(effects=before)


@attack(CLASS, "an order by a person", guard="executor's own check", rule="grant.issuer")
async def ordered_by_a_person(arena: Arena) -> Attempt:
    asked, run = await approved_and_not_run(arena)
    return await ordered(arena, run, asked, sender="user:eli")
