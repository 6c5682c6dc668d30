"""Messages that claim to be another's, and roles that their sender does not have."""

from __future__ import annotations

import json
from typing import Any

from schemas.envelope import Message
from schemas.payloads import Ask, Code, DryRunCode, FindResult, GenerateCode, RequestExecution, RetrieveKnowledge
from tests.attacks.arena import Arena
from tests.attacks.table import Attempt, attack
from tests.unit.agents.stage import QUESTION

CLASS = "false-principal"
CODE = Code(language="sql", text="SELECT c_name FROM tpch.customer")
REQUEST = RequestExecution(question="q", code=CODE, target="results.x")


def root(arena: Arena, sender: str, principal: str | None, to: str = "OrchestratorAgent", **changed: Any) -> Message:
    """The first message of a conversation."""
    payload = changed.pop("payload", Ask(question=QUESTION))
    row = {
        "message_id": "root",
        "correlation_id": "conversation",
        "from_agent": sender,
        "to_agent": to,
        "message_type": "request",
        "kind": type(payload).__name__,
        "content": payload.model_dump_json(),
        "timestamp": arena.now,
        "principal": principal,
    }
    return Message.model_validate(row | changed)


async def asked_for(arena: Arena, row: Message) -> Attempt:
    """It succeeded if a dry run was made or anything ran for who is not allowed to."""
    await arena.handled(row)
    dry = [one for one in arena.all_rows() if one.kind in ("CodeDryRun", "ApprovalRequested", "RunCode")]
    return Attempt(bool(dry or arena.engine.ran), arena.refusals())


@attack(
    CLASS,
    "an analyst's question in an engineer's name, with the analyst's key",
    guard="principals",
    rule="principal.claimed",
)
async def an_engineers_name(arena: Arena) -> Attempt:
    row = root(arena, "user:ana", "eli")
    return await asked_for(arena, arena.write(row, arena.bus("user:ana")))


@attack(
    CLASS,
    "an analyst's question from an engineer's address, without a key",
    guard="signatures",
    rule="signature.missing",
    without="signatures",
)
async def an_engineers_address(arena: Arena) -> Attempt:
    return await asked_for(arena, arena.write(root(arena, "user:eli", "eli")))


@attack(CLASS, "the field principal changed under a good signature", guard="signatures", rule="signature.invalid")
async def principal_changed_after_signing(arena: Arena) -> Attempt:
    row = root(arena, "user:ana", "ana", to="Nobody", message_id="true")
    arena.write(row, arena.bus("user:ana"))
    (signed,) = [one for one in arena.all_rows() if one.message_id == "true"]
    false = arena.copied(
        signed, message_id="root", correlation_id="other", to_agent="OrchestratorAgent", principal="eli"
    )
    return await asked_for(arena, false)


@attack(CLASS, "an agent that begins a conversation for a person", guard="principals", rule="principal.claimed")
async def an_agent_for_a_person(arena: Arena) -> Attempt:
    row = root(arena, "CodeAgent", "eli", to="GovernanceAgent", payload=REQUEST)
    return await asked_for(arena, arena.write(row, arena.bus("CodeAgent")))


@attack(
    CLASS,
    "an agent that acts for another person than the conversation's",
    guard="principals",
    rule="principal.changed",
    without="principals",
)
async def an_agent_for_another_person(arena: Arena) -> Attempt:
    begun = arena.client("eli").send("Nobody", Ask(question="x"))
    row = arena.row("OrchestratorAgent", "GovernanceAgent", REQUEST, begun, principal="ada", message_type="request")
    arena.write(row, arena.bus("OrchestratorAgent"))
    return await asked_for(arena, row)


@attack(CLASS, "an analyst who asks governance directly", guard="roles", rule="rbac.sql.execute")
async def straight_to_governance(arena: Arena) -> Attempt:
    return await asked_for(arena, arena.client("ana").send("GovernanceAgent", REQUEST))


@attack(CLASS, "an analyst who asks the executor for a dry run directly", guard="addressee", rule="dry_run.issuer")
async def straight_to_the_executor(arena: Arena) -> Attempt:
    return await asked_for(arena, arena.client("ana").send("ExecutionAgent", DryRunCode(code=CODE)))


@attack(CLASS, "an analyst who writes into an engineer's conversation", guard="principals", rule="principal.other")
async def in_an_engineers_conversation(arena: Arena) -> Attempt:
    begun = arena.client("eli").send("Nobody", Ask(question="x"))
    row = arena.row("user:ana", "GovernanceAgent", REQUEST, begun)
    arena.write(row, arena.bus("user:ana"))
    return await asked_for(arena, row)


@attack(CLASS, "a person without any role", guard="roles", rule="rbac.sql.execute")
async def nobody_at_all(arena: Arena) -> Attempt:
    return await asked_for(arena, arena.client("zoe").send("GovernanceAgent", REQUEST))


@attack(CLASS, "a role as a user's name", guard="signatures", rule="signature.missing")
async def the_name_of_a_role(arena: Arena) -> Attempt:
    row = root(arena, "user:admin", "admin", to="GovernanceAgent", payload=REQUEST)
    return await asked_for(arena, arena.write(row))


@attack(CLASS, "a role in the content, which no payload has", guard="schema", rule="message.malformed")
async def a_role_in_the_content(arena: Arena) -> Attempt:
    row = root(arena, "user:ana", "ana", to="GovernanceAgent", payload=REQUEST)
    content = json.dumps(json.loads(row.content) | {"role": "admin"})
    return await asked_for(arena, arena.write(row.model_copy(update={"content": content}), arena.bus("user:ana")))


@attack(CLASS, "a role as a parameter where there is one: knowledge read as admin", guard="roles", rule="")
async def a_role_as_a_parameter(arena: Arena) -> Attempt:
    """RetrieveKnowledge names the role to read as. No agent that reads is in this arena: what counts is that it refuses."""
    row = arena.client("ana").send("CodeAgent", RetrieveKnowledge(question="salaries", role="admin"))
    await arena.handled(row)
    answers = [one for one in arena.all_rows() if one.kind == "KnowledgeRetrieved"]
    return Attempt(bool(answers), arena.refusals())


@attack(
    CLASS, "a message that says it comes from the root of trust's upkeep", guard="signatures", rule="signature.missing"
)
async def in_upkeeps_name(arena: Arena) -> Attempt:
    row = root(arena, "Upkeep", "agent:Upkeep", to="GovernanceAgent", payload=REQUEST)
    return await asked_for(arena, arena.write(row))


@attack(CLASS, "a conversation whose root was forged after the fact", guard="signatures", rule="principal.root")
async def a_root_that_was_added(arena: Arena) -> Attempt:
    """The true rows of a conversation have a cause; a forged root before them must not become its beginning."""
    arena.write(root(arena, "user:eli", "eli", to="Nobody"))
    row = root(
        arena, "user:ana", "ana", to="GovernanceAgent", payload=REQUEST, message_id="second", causation_id="root"
    )
    return await asked_for(arena, arena.write(row, arena.bus("user:ana")))


@attack(CLASS, "results of a role that may not read them", guard="roles", rule="")
async def results_for_a_curator(arena: Arena) -> Attempt:
    row = arena.client("kim").send("CodeAgent", FindResult(question="top customers", role="admin"))
    await arena.handled(row)
    return Attempt(any(one.kind == "ResultFound" for one in arena.all_rows()), arena.refusals())


@attack(
    CLASS, "an analyst who has code generated by asking the agent directly", guard="roles", rule="rbac.code.generate"
)
async def code_for_an_analyst(arena: Arena) -> Attempt:
    row = arena.client("ana").send("CodeAgent", GenerateCode(question="top customers"))
    await arena.handled(row)
    return Attempt(any(one.kind == "CodeGenerated" for one in arena.all_rows()), arena.refusals())
