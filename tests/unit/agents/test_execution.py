"""ExecutionAgent: an effect starts once, under a grant that another person's signed yes stands behind, or not at all."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from schemas.envelope import Message
from schemas.payloads import (
    ApprovalRequested,
    Code,
    CodeDryRun,
    CodeRun,
    Decide,
    DryRunCode,
    ExecutionClaimed,
    Failed,
    Grant,
    Refused,
    RunCode,
)
from tests.fakes import FakeEngine, eventually
from tests.unit.agents.stage import ENVIRONMENT, Stage
from workers.execution.agent import ExecutionAgent
from workers.execution.grants import code_sha256
from workers.ports import DryRun, Executed, OutcomeUnknown, Statement, StatementFailed, StatementRefused

SQL = "SELECT c_name FROM tpch.customer"
GOVERNANCE, EXECUTION = "GovernanceAgent", "ExecutionAgent"


async def granted(
    stage: Stage, approver: str = "ada", saved_to: str | None = "results.x", **changed: Any
) -> tuple[Message, Message, RunCode]:
    """A conversation up to the grant, said by hand with the right keys: root, approval's message, and what is to run."""
    root = stage.client("eli").send("OrchestratorAgent", Code_ask())
    dry: DryRun = await FakeEngine().dry_run(Statement("sql", SQL, saved_to))
    code = Code(language="sql", text=SQL)
    seen = CodeDryRun(
        code_sha256=code_sha256(SQL),
        statement_class=dry.statement_class,
        columns=list(dry.columns),
        table_versions=dict(dry.table_versions),
        plan=dry.plan,
        digest=dry.digest,
        writes=dry.writes,
    )
    stage.say(EXECUTION, GOVERNANCE, seen, root)
    asked = ApprovalRequested(
        approval_id="apr-1",
        requester="eli",
        question="q",
        code=code,
        target=saved_to,
        digest=dry.digest,
        plan="p",
        rule="r",
        expires_at=stage.now + 10**9,
        table_drift=changed.get("table_drift", 0),
    )
    approval = stage.say(GOVERNANCE, "*", asked, root)
    if approver:
        decide = Decide(approval_id="apr-1", decision="approve", digest=dry.digest)
        stage.say(f"user:{approver}", GOVERNANCE, decide, approval)
    grant = {
        "grant_id": "grant-1",
        "approval_id": "apr-1",
        "code_sha256": code_sha256(SQL),
        "dialect": "sql",
        "target": saved_to,
        "dry_run_digest": dry.digest,
        "table_versions": {"tpch.customer": 0},
        "requester": "eli",
        "approved_by": "ada",
        "rule": "r",
        "policy": "p" * 64,
        "environment": ENVIRONMENT,
        "issued_at": stage.now,
        "expires_at": stage.now + 10**9,
    } | changed
    return (
        root,
        approval,
        RunCode(grant=Grant.model_validate(grant), question="q", code=code, reply_to="OrchestratorAgent"),
    )


def executor(stage: Stage, engine: FakeEngine | None = None, **given: Any) -> ExecutionAgent:
    return ExecutionAgent(engine or stage.engine, stage.roles, ENVIRONMENT, **given)


def Code_ask() -> Any:
    from schemas.payloads import Ask

    return Ask(question="Execute SQL")


def run(stage: Stage, said: RunCode, cause: Message, sender: str = GOVERNANCE) -> Message:
    return stage.say(sender, EXECUTION, said, cause, message_type="request")


async def outcome(stage: Stage, ran: Message) -> Any:
    """What the one who waits was told."""
    from schemas.payloads import KINDS

    def found() -> list[Message]:
        return [m for m in stage.rows(ran, "CodeRun", "Failed", "Refused") if m.causation_id == ran.message_id]

    (row,) = await eventually(found)
    return KINDS[row.kind].model_validate_json(row.content)


async def test_a_good_grant_runs_once_and_says_what_it_did(stage: Stage) -> None:
    await stage.host(executor(stage))
    root, approval, said = await granted(stage)
    ran = run(stage, said, approval)
    done = await outcome(stage, ran)
    assert isinstance(done, CodeRun)
    assert (done.grant_id, done.requester, done.approved_by, done.row_count) == ("grant-1", "eli", "ada", 1)
    assert stage.engine.ran == [(SQL, "results.x", "grant-1")]
    kinds = [m.kind for m in stage.rows(root) if m.kind.startswith("Execution")]
    assert kinds == ["ExecutionClaimed", "ExecutionSettled"]
    assert stage.payloads(root, "ExecutionSettled")[0].step == "done"


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"code_sha256": code_sha256("DROP TABLE x")}, "grant.code"),
        ({"dialect": "python"}, "grant.code"),
        ({"requester": "ned"}, "grant.requester"),
        ({"requester": "ada"}, "grant.requester"),
        ({"approved_by": "eli"}, "grant.four_eyes"),
        ({"approved_by": "kim"}, "grant.approval"),
        ({"approval_id": "apr-2"}, "grant.approval"),
        ({"approval_id": None}, "grant.approval"),
        ({"target": "results.other"}, "grant.approval"),
        ({"dry_run_digest": "0" * 64}, "grant.approval"),
        ({"expires_at": 0}, "grant.expired"),
        ({"environment": "prod"}, "grant.environment"),
        ({"environment": ""}, "grant.environment"),
        ({"policy": ""}, "grant.policy"),
    ],
)
async def test_an_altered_grant_is_refused_by_its_rule_and_nothing_runs(
    stage: Stage, changed: dict[str, Any], rule: str
) -> None:
    await stage.host(executor(stage))
    root, approval, said = await granted(stage, **changed)
    refused = await outcome(stage, run(stage, said, approval))
    assert (type(refused), refused.rule) == (Refused, rule)
    assert ("grant.refused", rule) in stage.facts(root)
    assert stage.engine.ran == []
    assert stage.rows(root, "ExecutionClaimed") == []


async def test_a_grant_for_other_code_runs_nothing(stage: Stage) -> None:
    await stage.host(executor(stage))
    _, approval, said = await granted(stage)
    other = said.model_copy(update={"code": Code(language="sql", text="SELECT * FROM secrets")})
    assert (await outcome(stage, run(stage, other, approval))).rule == "grant.code"
    assert stage.engine.ran == []


async def test_nobodys_yes_is_no_yes(stage: Stage) -> None:
    await stage.host(executor(stage))
    _, approval, said = await granted(stage, approver="")
    assert (await outcome(stage, run(stage, said, approval))).rule == "grant.approval"
    assert stage.engine.ran == []


@pytest.mark.parametrize("decision", [{"decision": "reject"}, {"digest": "0" * 64}, {"approval_id": "apr-9"}])
async def test_a_yes_to_something_else_is_no_yes(stage: Stage, decision: dict[str, Any]) -> None:
    await stage.host(executor(stage))
    _, approval, said = await granted(stage, approver="")
    asked = {"approval_id": "apr-1", "decision": "approve", "digest": said.grant.dry_run_digest} | decision
    stage.say("user:ada", GOVERNANCE, Decide.model_validate(asked), approval)
    assert (await outcome(stage, run(stage, said, approval))).rule == "grant.approval"
    assert stage.engine.ran == []


async def test_an_unsigned_yes_is_nobodys(stage: Stage) -> None:
    await stage.host(executor(stage))
    _, approval, said = await granted(stage, approver="")
    decide = Decide(approval_id="apr-1", decision="approve", digest=said.grant.dry_run_digest)
    stage.forge("user:ada", GOVERNANCE, decide, approval)
    assert (await outcome(stage, run(stage, said, approval))).rule == "grant.approval"
    assert stage.engine.ran == []


@pytest.mark.parametrize("sender", ["OrchestratorAgent", "CodeAgent", "user:ada", "user:eli"])
async def test_a_grant_comes_from_governance_alone(stage: Stage, sender: str) -> None:
    await stage.host(executor(stage))
    _, approval, said = await granted(stage)
    assert (await outcome(stage, run(stage, said, approval, sender))).rule == "grant.issuer"
    assert stage.engine.ran == []


async def test_an_unsigned_grant_is_rejected(stage: Stage) -> None:
    await stage.host(executor(stage))
    root, approval, said = await granted(stage)
    forged = stage.forge(GOVERNANCE, EXECUTION, said, approval, message_type="request")
    await stage.settled(forged)
    assert ("message.rejected", "signature.missing") in stage.facts(root)
    assert stage.engine.ran == []
    # The real one still counts.
    assert isinstance(await outcome(stage, run(stage, said, approval)), CodeRun)


@pytest.mark.parametrize("sender", ["user:ana", "OrchestratorAgent"])
async def test_a_dry_run_is_asked_for_by_governance_alone(stage: Stage, sender: str) -> None:
    await stage.host(executor(stage))
    root = stage.client("eli").send("OrchestratorAgent", Code_ask())
    said = stage.say(sender, EXECUTION, DryRunCode(code=Code(language="sql", text=SQL)), root, message_type="request")
    assert (await outcome(stage, said)).rule == "dry_run.issuer"


async def test_a_grant_is_used_once_however_often_it_is_sent(stage: Stage) -> None:
    await stage.host(executor(stage))
    root, approval, said = await granted(stage)
    sent = [run(stage, said, approval) for _ in range(3)]
    told = [await outcome(stage, one) for one in sent]
    assert [type(one) for one in told] == [CodeRun, Refused, Refused]
    assert [one.rule for one in told[1:]] == ["grant.used"] * 2
    assert len(stage.engine.ran) == len(stage.rows(root, "ExecutionClaimed")) == 1


async def test_two_executors_run_a_grant_once(stage: Stage) -> None:
    engines = [FakeEngine(), FakeEngine()]
    for engine in engines:
        await stage.host(executor(stage, engine))
    root, approval, said = await granted(stage)
    ran = run(stage, said, approval)
    await outcome(stage, ran)
    await stage.settled(ran)
    assert sum(len(engine.ran) for engine in engines) == 1
    assert len(stage.rows(root, "ExecutionClaimed")) == 1


async def test_tables_that_moved_since_the_dry_run_stop_it(stage: Stage) -> None:
    await stage.host(executor(stage))
    _, approval, said = await granted(stage)
    stage.engine.moved = True
    refused = await outcome(stage, run(stage, said, approval))
    assert refused.rule == "grant.dry_run_changed"
    assert "tpch.customer" in refused.reason
    assert stage.engine.ran == []


# --- engines that fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [StatementFailed("no such table"), StatementRefused("guard.write", "it writes")])
async def test_an_engine_that_fails_is_told_and_the_grant_is_spent(stage: Stage, error: Exception) -> None:
    stage.engine.fails = error
    await stage.host(executor(stage))
    root, approval, said = await granted(stage)
    failed = await outcome(stage, run(stage, said, approval))
    assert (type(failed), failed.rule) == (Failed, "execution.failed")
    assert stage.payloads(root, "ExecutionSettled")[0].step == "failed"
    assert (await outcome(stage, run(stage, said, approval))).rule == "grant.used"
    assert len(stage.engine.ran) == 1


@pytest.mark.parametrize("error", [OutcomeUnknown("the connection broke"), RuntimeError("nobody expected this")])
async def test_an_outcome_that_nobody_knows_is_in_doubt_and_never_tried_again(stage: Stage, error: Exception) -> None:
    stage.engine.fails, stage.engine.silent = error, True
    await stage.host(executor(stage))
    root, approval, said = await granted(stage)
    ran = run(stage, said, approval)
    waiting = asyncio.create_task(outcome(stage, ran))
    while not waiting.done():
        stage.clock.advance(10)  # whatever waits to try again may
        await asyncio.sleep(0.001)
    failed = waiting.result()
    assert (type(failed), failed.rule) == (Failed, "execution.in_doubt")
    assert "not run again by itself" in failed.reason
    assert [s.step for s in stage.payloads(root, "ExecutionSettled")] == ["in_doubt"]
    assert len(stage.engine.ran) == 1


class Hanging(FakeEngine):
    """Starts the effect, and never comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.started = asyncio.Event()

    async def run(self, statement: Statement, grant_id: str, row_limit: int, *, digest: str | None = None) -> Executed:
        self.ran.append((statement.text, statement.target, grant_id))
        self.started.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


async def test_a_crash_between_claim_and_outcome_is_in_doubt_and_never_run_again(tmp_path: Path) -> None:
    hanging = Hanging()
    stage = Stage(tmp_path, hanging)
    host = await stage.host(executor(stage, hanging))
    root, approval, said = await granted(stage)
    ran = run(stage, said, approval)
    await hanging.started.wait()
    assert len(stage.rows(root, "ExecutionClaimed")) == 1
    stage.hosts.remove(host)
    await host.stop(patience_s=0.001)  # the process is gone, as far as the log can tell
    again = FakeEngine()
    await stage.host(executor(stage, again))
    failed = await outcome(stage, ran)
    assert (type(failed), failed.rule) == (Failed, "execution.in_doubt")
    assert again.ran == []
    assert (await outcome(stage, run(stage, said, approval))).rule == "grant.used"
    assert again.ran == []
    await stage.close()


async def test_a_claim_that_another_made_first_stops_it(stage: Stage) -> None:
    root, approval, said = await granted(stage)
    theirs = ExecutionClaimed(
        grant_id="grant-1", requester="eli", question="q", code=SQL, target=None, approved_by="ada", instance="another"
    )
    stage.say(EXECUTION, "*", theirs, approval)
    await stage.host(executor(stage))
    assert (await outcome(stage, run(stage, said, approval))).rule == "grant.used"
    assert stage.engine.ran == []
    assert root.correlation_id == approval.correlation_id
