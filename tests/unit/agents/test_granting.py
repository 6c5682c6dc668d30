"""Grants from governance's side: taken back before their use, and asked for again when the tables have moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.envelope import Message
from schemas.payloads import Code, ExecutionClaimed, Failed, Refused, RequestExecution, RevokeGrant
from tests.fakes import FakeEngine, eventually, sample_policy
from tests.unit.agents.stage import Stage
from workers.governance.approvals import Approval, approvals
from workers.ports import DryRun, Statement

SQL = Code(language="sql", text="SELECT c_name FROM tpch.customer")


async def granted(stage: Stage, user: str = "eli", by: str = "ada") -> tuple[Message, str]:
    """A grant that nobody uses, because execution does not run. Returns the request and the grant's id."""
    workers = [worker for worker in stage.workers() if worker.name != "ExecutionAgent"]
    await stage.host(*workers)
    executing = await stage.host(next(w for w in stage.workers() if w.name == "ExecutionAgent"))
    asked = stage.ask(user)
    approval = await stage.pending(asked)
    await stage.stop(executing)
    assert (await stage.reply_to(stage.decide(by, approval))).accepted
    (run,) = await eventually(lambda: stage.payloads(asked, "RunCode"))
    return asked, run.grant.grant_id


async def take_back(stage: Stage, user: str, asked: Message, grant_id: str) -> Any:
    revoke = RevokeGrant(grant_id=grant_id, reason="not now")
    return await stage.reply_to(
        stage.client(user).send(
            "GovernanceAgent", revoke, correlation_id=asked.correlation_id, causation_id=asked.message_id
        )
    )


async def executing(stage: Stage) -> None:
    await stage.host(next(w for w in stage.workers() if w.name == "ExecutionAgent"))


@pytest.mark.parametrize("user", ["eli", "ada", "bea"])
async def test_a_grant_that_was_taken_back_is_never_used(stage: Stage, user: str) -> None:
    asked, grant_id = await granted(stage)
    answer = await take_back(stage, user, asked, grant_id)
    assert (answer.accepted, answer.rule) == (True, "grant.revoked")
    assert (await take_back(stage, "ada", asked, grant_id)).rule == "grant.revoked"
    assert len(stage.rows(asked, "GrantRevoked")) == 1
    await executing(stage)
    assert (await stage.answer(asked)).status == "refused"
    assert stage.engine.ran == []
    assert stage.rows(asked, "ExecutionClaimed") == []


@pytest.mark.parametrize(
    ("user", "grant_id", "rule"),
    [
        ("ned", None, "rbac.execution.approve"),
        ("kim", None, "rbac.execution.approve"),
        ("zoe", None, "rbac.execution.approve"),
        ("ada", "grant-nothing", "grant.unknown"),
    ],
)
async def test_who_may_not_take_it_back(stage: Stage, user: str, grant_id: str | None, rule: str) -> None:
    asked, real = await granted(stage)
    answer = await take_back(stage, user, asked, grant_id or real)
    assert (answer.accepted, answer.rule) == (False, rule)
    await executing(stage)
    assert (await stage.answer(asked)).status == "answered"


async def test_no_agent_takes_a_grant_back(stage: Stage) -> None:
    asked, grant_id = await granted(stage)
    said = stage.say("CodeAgent", "GovernanceAgent", RevokeGrant(grant_id=grant_id), asked, message_type="request")
    assert (await stage.reply_to(said)).rule == "grant.not_a_person"


async def test_the_log_decides_whether_it_was_used_before(stage: Stage) -> None:
    """The claim stands in the log, though nothing of it has been heard yet."""
    asked, grant_id = await granted(stage)
    claim = ExecutionClaimed(
        grant_id=grant_id, requester="eli", question="q", code="c", target=None, approved_by="ada", instance="i"
    )
    stage.say("ExecutionAgent", "*", claim, asked)
    answer = await take_back(stage, "ada", asked, grant_id)
    assert (answer.accepted, answer.rule) == (False, "grant.used")
    assert stage.rows(asked, "GrantRevoked") == []
    assert ("revocation.refused", "grant.used") in stage.facts(asked)


async def test_taking_back_twice_handled_says_the_same(stage: Stage) -> None:
    """Governance dies between the revocation and its receipt: whoever takes over finds its own word in the log."""
    asked, grant_id = await granted(stage)
    governance = stage.hosts[0]
    await stage.stop(governance)
    revoke = stage.client("ada").send(
        "GovernanceAgent",
        RevokeGrant(grant_id=grant_id),
        correlation_id=asked.correlation_id,
        causation_id=asked.message_id,
    )
    from schemas.payloads import GrantRevoked

    gone = GrantRevoked(grant_id=grant_id, executor="ExecutionAgent", actor="ada")
    stage.say("GovernanceAgent", "*", gone, revoke, principal="eli")
    await stage.host(*(w for w in stage.workers() if w.name == "GovernanceAgent"))
    assert (await stage.reply_to(revoke)).accepted


# --- tables that move -----------------------------------------------------------------------------------------------


class Restless(FakeEngine):
    """Its tables move before each of the first `moves` runs."""

    def __init__(self, moves: int, while_running: bool = False) -> None:
        super().__init__()
        self.version, self.moves, self.while_running = 0, moves, while_running

    async def dry_run(self, statement: Statement) -> DryRun:
        from dataclasses import replace

        found = await super().dry_run(statement)
        return replace(found, digest=f"{self.version:064d}", table_versions={"tpch.customer": self.version})

    def move(self) -> None:
        if self.moves:
            self.moves -= 1
            self.version += 1

    async def run(self, statement: Statement, grant_id: str, row_limit: int, **how: Any) -> Any:
        from workers.ports import StatementRefused

        if self.while_running:
            self.move()
        if how.get("digest") not in (None, f"{self.version:064d}"):
            raise StatementRefused("grant.dry_run_changed", "tpch.customer has changed")
        return await super().run(statement, grant_id, row_limit)


def open_one(stage: Stage, asked: Message) -> list[Approval]:
    return [one for one in approvals(stage.rows(asked)).values() if one.decided is None]


@pytest.mark.parametrize("direct", [False, True])
async def test_what_moved_is_tried_and_asked_for_again_by_itself(tmp_path: Path, direct: bool) -> None:
    engine = Restless(moves=1)
    stage = Stage(tmp_path, engine)
    await stage.host()
    request = RequestExecution(question="q", code=SQL)
    asked = stage.client("eli").send("GovernanceAgent", request) if direct else stage.ask("eli")
    first = await stage.pending(asked)
    engine.move()
    assert (await stage.reply_to(stage.decide("ada", first))).accepted
    (second,) = await eventually(lambda: open_one(stage, asked))
    assert second.id != first.id
    assert second.requested.again.endswith("tpch.customer moved from version 0 to 1")
    assert engine.ran == []
    assert stage.rows(asked, "Answered", "CodeRun") == []
    assert ("execution.again", "grant.dry_run_changed") in stage.facts(asked)
    # The yes to the first is none to the second.
    assert (await stage.reply_to(stage.decide("ada", second, digest=first.requested.digest))).rule == "approval.digest"
    assert (await stage.reply_to(stage.decide("ada", second))).accepted
    await eventually(lambda: stage.rows(asked, "CodeRun"))
    assert len(engine.ran) == 1
    await stage.close()


async def test_it_is_not_asked_for_ever(tmp_path: Path) -> None:
    engine = Restless(moves=99)
    stage = Stage(tmp_path, engine)
    await stage.host()
    asked = stage.ask("eli")
    for _ in range(3):
        (approval,) = await eventually(lambda: open_one(stage, asked))
        engine.move()
        assert (await stage.reply_to(stage.decide("ada", approval))).accepted
    answer = await stage.answer(asked)
    assert (answer.status, answer.refusal.rule) == ("refused", "grant.dry_run_changed")
    assert "3 times" in answer.answer
    assert len(stage.rows(asked, "DryRunCode")) == 3
    assert engine.ran == []
    await stage.close()


async def test_what_the_policy_alone_allowed_is_tried_again_without_anybody(tmp_path: Path) -> None:
    from tests.fakes import policy_of

    engine = Restless(moves=1, while_running=True)
    rule = {"id": "all.reads", "effect": "allow", "reason": "reads", "when": {"subject": ["execution"]}}
    stage = Stage(tmp_path, engine, policy_of(rule, sample_policy().policy.rules[0].model_dump(exclude_none=True)))
    await stage.host(*(w for w in stage.workers() if w.name != "ExecutionAgent"))
    running = await stage.host(next(w for w in stage.workers() if w.name == "ExecutionAgent"))
    asked = stage.ask("eli")
    await stage.answer(asked)
    assert len(engine.ran) == 1
    assert len(stage.rows(asked, "DryRunCode")) == len(stage.rows(asked, "RunCode")) == 2
    await stage.stop(running)
    await stage.close()


@pytest.mark.parametrize("payload", [Failed(rule="grant.dry_run_changed", reason="so they say")])
async def test_only_the_executor_says_that_tables_moved(stage: Stage, payload: Failed | Refused) -> None:
    asked, _ = await granted(stage)
    (run,) = stage.rows(asked, "RunCode")
    for sender in ("CodeAgent", "user:eli"):
        await stage.settled(stage.say(sender, "GovernanceAgent", payload, run, message_type="response"))
    assert len(stage.rows(asked, "DryRunCode")) == 1
