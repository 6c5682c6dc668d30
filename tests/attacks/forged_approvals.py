"""A yes that nobody gave."""

from __future__ import annotations

import json
from pathlib import Path

from bus.audit import AuditChain
from bus.keys import Signer, create_keys
from bus.log.seal import SigningSeal
from bus.memory import MemoryBus
from schemas.envelope import Message
from schemas.payloads import ApprovalDecided, Decide
from tests.attacks.arena import Arena
from tests.attacks.table import Attempt, attack
from tests.fakes import eventually
from tests.unit.agents.stage import ENVIRONMENT, TABLE
from workers.governance.approvals import Approval

CLASS = "forged-approval"


def yes(approval: Approval, **changed: object) -> Decide:
    said = {"approval_id": approval.id, "decision": "approve", "digest": approval.requested.digest} | changed
    return Decide.model_validate(said)


def signed_by(arena: Arena, keys: Path, table: str, environment: str, row: Message) -> Message:
    """Somebody else's key ring, table or environment, and a signature that is good there."""
    seal = SigningSeal(Signer.load(keys, [row.from_agent], table, environment), AuditChain("attacker"))
    return arena.write(row, MemoryBus(arena.log, seal=seal))


async def after(arena: Arena, *rows: Message) -> Attempt:
    await arena.handled(*rows)
    return arena.outcome()


@attack(CLASS, "an approval without a signature", guard="signatures", rule="signature.missing", without="signatures")
async def unsigned(arena: Arena) -> Attempt:
    _, approval = await arena.pending_request()
    return await after(arena, arena.forge("user:ada", "GovernanceAgent", yes(approval), approval.message))


@attack(
    CLASS, "the requester's key under ada's name", guard="signatures", rule="signature.sender", without="signatures"
)
async def with_the_requesters_key(arena: Arena) -> Attempt:
    _, approval = await arena.pending_request()
    own = arena.row("user:eli", "GovernanceAgent", yes(approval), approval.message)
    arena.write(own, arena.bus("user:eli"))
    (signed,) = [row for row in arena.all_rows() if row.message_id == own.message_id]
    stolen = arena.copied(signed, message_id="stolen", from_agent="user:ada", principal="ada")
    return await after(arena, stolen)


@attack(CLASS, "a key of the attacker's own making", guard="signatures", rule="signature.unknown_key")
async def with_a_key_of_ones_own(arena: Arena) -> Attempt:
    _, approval = await arena.pending_request()
    keys = arena.folder / "own-keys"
    create_keys(keys, {"forged": ["user:ada"]}, arena.now)
    row = arena.row("user:ada", "GovernanceAgent", yes(approval), approval.message)
    return await after(arena, signed_by(arena, keys, TABLE, ENVIRONMENT, row))


@attack(CLASS, "a key of the attacker's own making with the id of ada's", guard="signatures", rule="signature.invalid")
async def with_the_id_of_a_real_key(arena: Arena) -> Attempt:
    _, approval = await arena.pending_request()
    keys = arena.folder / "own-keys"
    create_keys(keys, {"ada": ["user:ada"]}, arena.now)
    row = arena.row("user:ada", "GovernanceAgent", yes(approval), approval.message)
    return await after(arena, signed_by(arena, keys, TABLE, ENVIRONMENT, row))


@attack(CLASS, "ada's true yes, taken over from the test environment", guard="environment", rule="signature.invalid")
async def from_another_environment(arena: Arena) -> Attempt:
    _, approval = await arena.pending_request()
    row = arena.row("user:ada", "GovernanceAgent", yes(approval), approval.message)
    return await after(arena, signed_by(arena, arena.keys, TABLE, "staging", row))


@attack(CLASS, "ada's true yes, taken over from the table of another home", guard="table id", rule="signature.invalid")
async def from_another_table(arena: Arena) -> Attempt:
    _, approval = await arena.pending_request()
    row = arena.row("user:ada", "GovernanceAgent", yes(approval), approval.message)
    return await after(arena, signed_by(arena, arena.keys, "another-table", ENVIRONMENT, row))


@attack(
    CLASS,
    "ada's yes to an earlier request, copied into the conversation of another",
    guard="signatures",
    rule="signature.invalid",
)
async def replayed_into_another_conversation(arena: Arena) -> Attempt:
    asked, approval = await arena.pending_request()
    arena.decide("ada", approval)
    await arena.answer(asked)
    other, second = await arena.pending_request()
    (true,) = arena.rows(asked, "Decide")
    copy = arena.copied(
        true, message_id="replayed", correlation_id=other.correlation_id, causation_id=second.message.message_id
    )
    await arena.handled(copy)
    return arena.outcome(effects=1)


@attack(CLASS, "ada's yes once more, with the same id", guard="deduplication")
async def replayed_with_its_id(arena: Arena) -> Attempt:
    asked, approval = await arena.pending_request()
    arena.decide("ada", approval)
    await arena.answer(asked)
    (true,) = arena.rows(asked, "Decide")
    arena.copied(true)
    await arena.quiet()
    return arena.outcome(effects=1)


@attack(
    CLASS,
    "ada's yes to an earlier approval, sent by the requester for a new one",
    guard="principals",
    rule="approval.own_request",
)
async def relayed_by_the_requester(arena: Arena) -> Attempt:
    _, approval = await arena.pending_request()
    return await after(arena, arena.decide("eli", approval))


@attack(CLASS, "ada's no, its word changed to yes", guard="signatures", rule="signature.invalid", without="signatures")
async def a_no_made_a_yes(arena: Arena) -> Attempt:
    _, first = await arena.pending_request()
    no = arena.decide(
        "ada", first, "reject", digest="0" * 64
    )  # refused: about another digest, so the approval stays open
    await arena.handled(no)
    (true,) = arena.rows(first.message, "Decide")
    return await after(arena, arena.rewritten(true, decision="approve", digest=first.requested.digest))


@attack(
    CLASS, "ada's yes to one dry run, its digest changed to another's", guard="signatures", rule="signature.invalid"
)
async def a_yes_to_another_digest(arena: Arena) -> Attempt:
    asked, approval = await arena.pending_request()
    arena.decide("ada", approval, digest="0" * 64)
    (true,) = await eventually(lambda: arena.rows(asked, "Decide"))
    return await after(arena, arena.rewritten(true, digest=approval.requested.digest))


@attack(CLASS, "the end of an approval, written by an agent that is not governance", guard="authority", rule="")
async def decided_by_another_agent(arena: Arena) -> Attempt:
    _, approval = await arena.pending_request()
    said = ApprovalDecided(approval_id=approval.id, decision="approved", actor="ada", actors=["ada"])
    arena.say("CodeAgent", "*", said, approval.message)
    arena.decide("eli", approval)
    await eventually(lambda: "approval.own_request" in arena.refusals())
    return arena.outcome()


@attack(CLASS, "the end of an approval in governance's name, without its key", guard="signatures", rule="")
async def decided_in_governances_name(arena: Arena) -> Attempt:
    _, approval = await arena.pending_request()
    said = ApprovalDecided(approval_id=approval.id, decision="approved", actor="ada", actors=["ada"])
    arena.forge("GovernanceAgent", "*", said, approval.message)
    no = arena.decide("eli", approval)
    return await after(arena, no)


@attack(CLASS, "a yes with fields that are none", guard="schema", rule="message.malformed")
async def with_fields_that_are_none(arena: Arena) -> Attempt:
    _, approval = await arena.pending_request()
    row = arena.row("user:ada", "GovernanceAgent", yes(approval), approval.message)
    content = json.dumps(json.loads(row.content) | {"approved": True, "role": "admin"})
    arena.write(row.model_copy(update={"content": content}), arena.bus("user:ada"))
    return await after(arena, row)


@attack(CLASS, "a yes for a person who said nothing, without a delegation", guard="delegation", rule="delegation.none")
async def for_somebody_who_lent_nothing(arena: Arena) -> Attempt:
    _, approval = await arena.pending_request()
    return await after(arena, arena.decide("ned", approval, for_user="ada"))
