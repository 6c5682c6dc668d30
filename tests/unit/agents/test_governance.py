"""GovernanceAgent: nobody gets a grant but with another person's signed yes to the very thing that was asked."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.payloads import Code, CodeDryRun, Decide, ExpireApprovals, Failed, Refused, RequestExecution
from tests.fakes import eventually
from tests.unit.agents.stage import Stage


async def test_another_persons_yes_gives_one_grant_and_one_run(stage: Stage) -> None:
    await stage.host()
    asked = stage.ask("eli")
    approval = await stage.pending(asked)
    assert (approval.requested.requester, approval.requested.target) == ("eli", "results.x")
    decided = await stage.reply_to(stage.decide("ada", approval))
    assert (decided.accepted, decided.rule) == (True, "execution.four_eyes")
    answer = await stage.answer(asked)
    assert answer.status == "answered"
    assert "approved by ada" in answer.answer
    assert len(stage.engine.ran) == len(stage.rows(asked, "RunCode")) == len(stage.rows(asked, "ExecutionClaimed")) == 1
    assert ("grant.issued", "execution.four_eyes") in stage.facts(asked)
    assert ("execution.done", "execution.four_eyes") in stage.facts(asked)


@pytest.mark.parametrize(
    ("user", "changed", "rule"),
    [
        ("eli", {}, "approval.own_request"),
        ("ana", {}, "rbac.execution.approve"),
        ("ned", {}, "rbac.execution.approve"),
        ("kim", {}, "rbac.execution.approve"),
        ("bob", {}, "rbac.execution.approve"),
        ("ada", {"digest": "0" * 64}, "approval.digest"),
        ("ada", {"approval_id": "apr-nothing"}, "approval.unknown"),
    ],
)
async def test_a_decision_that_does_not_count_is_refused_by_its_rule(
    stage: Stage, user: str, changed: dict[str, Any], rule: str
) -> None:
    await stage.host()
    asked = stage.ask("eli")
    approval = await stage.pending(asked)
    answer = await stage.reply_to(stage.decide(user, approval, **changed))
    assert (answer.accepted, answer.rule) == (False, rule)
    assert ("approval.refused", rule) in stage.facts(asked)
    assert stage.rows(asked, "RunCode", "ApprovalDecided", "Answered") == []
    assert stage.engine.ran == []
    # It is still open for whoever may.
    assert (await stage.reply_to(stage.decide("ada", approval))).accepted


async def test_an_admin_does_not_approve_what_the_admin_asked_for(stage: Stage) -> None:
    await stage.host()
    asked = stage.ask("ada")
    approval = await stage.pending(asked)
    assert (await stage.reply_to(stage.decide("ada", approval))).rule == "approval.own_request"
    assert stage.engine.ran == []


@pytest.mark.parametrize("first", ["approve", "reject"])
async def test_an_approval_is_decided_once(stage: Stage, first: str) -> None:
    await stage.host()
    asked = stage.ask("eli")
    approval = await stage.pending(asked)
    assert (await stage.reply_to(stage.decide("ada", approval, first))).accepted
    await stage.answer(asked)
    for second in ("approve", "reject"):
        answer = await stage.reply_to(stage.decide("ada", approval, second))
        assert (answer.accepted, answer.rule) == (False, "approval.decided")
    assert len(stage.rows(asked, "ApprovalDecided")) == 1
    assert len(stage.engine.ran) == (1 if first == "approve" else 0)


async def test_two_decisions_at_once_give_one_grant(stage: Stage) -> None:
    asked = stage.ask("eli")
    host = await stage.host()
    approval = await stage.pending(asked)
    await stage.stop(host)
    decisions = [stage.decide("ada", approval) for _ in range(3)]
    await stage.host()
    accepted = [(await stage.reply_to(decision)).accepted for decision in decisions]
    assert accepted == [True, False, False]
    await stage.answer(asked)
    assert len(stage.engine.ran) == len(stage.rows(asked, "RunCode")) == 1


async def test_a_rejection_is_told_with_its_reason(stage: Stage) -> None:
    await stage.host()
    asked = stage.ask("eli")
    approval = await stage.pending(asked)
    stage.decide("ada", approval, "reject", reason="not on a Friday")
    answer = await stage.answer(asked)
    assert (answer.status, answer.refusal.rule if answer.refusal else "") == ("refused", "approval.rejected")
    assert "not on a Friday" in answer.answer
    assert stage.engine.ran == []


async def test_an_approval_that_nobody_decides_lapses(stage: Stage) -> None:
    await stage.host()
    asked = stage.ask("eli")
    approval = await stage.pending(asked)
    await eventually(lambda: stage.clock._sleepers)
    stage.clock.advance(3601)
    answer = await stage.answer(asked)
    assert answer.refusal is not None
    assert answer.refusal.rule == "approval.expired"
    assert ("approval.expired", "approval.expired") in stage.facts(asked)
    late = await stage.reply_to(stage.decide("ada", approval))
    assert (late.accepted, late.rule) == (False, "approval.decided")
    assert stage.engine.ran == []


async def test_an_approval_lapses_though_governance_slept_through_it(stage: Stage) -> None:
    host = await stage.host()
    asked = stage.ask("eli")
    approval = await stage.pending(asked)
    await stage.stop(host)
    stage.clock.advance(3601)
    decided = stage.decide("ada", approval)
    await stage.host()
    late = await stage.reply_to(decided)
    assert (late.accepted, late.rule) in [(False, "approval.expired"), (False, "approval.decided")]
    assert (await stage.answer(asked)).refusal.rule == "approval.expired"
    assert stage.engine.ran == []


async def test_only_a_person_decides(stage: Stage) -> None:
    await stage.host()
    asked = stage.ask("eli")
    approval = await stage.pending(asked)
    decide = Decide(approval_id=approval.id, decision="approve", digest=approval.requested.digest)
    for agent in ("OrchestratorAgent", "CodeAgent", "GovernanceAgent"):
        said = stage.say(agent, "GovernanceAgent", decide, asked, message_type="request")
        answer = await stage.reply_to(said)
        assert (answer.accepted, answer.rule) == (False, "approval.not_a_person")
    assert stage.engine.ran == []


async def test_an_approval_of_one_conversation_is_unknown_in_another(stage: Stage) -> None:
    await stage.host()
    asked, other = stage.ask("eli"), stage.ask("ned")
    approval, elsewhere = await stage.pending(asked), await stage.pending(other)
    decide = Decide(approval_id=approval.id, decision="approve", digest=approval.requested.digest)
    said = stage.client("ada").send(
        "GovernanceAgent", decide, correlation_id=other.correlation_id, causation_id=elsewhere.message.message_id
    )
    assert (await stage.reply_to(said)).rule == "approval.unknown"
    assert stage.engine.ran == []


async def test_nobody_has_code_run_in_another_persons_name(stage: Stage) -> None:
    """Else an admin could ask in eli's conversation, and approve it: two names, one person."""
    await stage.host()
    asked = stage.ask("eli", "Generate SQL for the top customers")
    await stage.answer(asked)
    code = Code(language="sql", text="SELECT c_name FROM tpch.customer")
    smuggled = stage.say("user:ada", "GovernanceAgent", RequestExecution(question="q", code=code), asked)
    refused = await stage.reply_to(smuggled)
    assert isinstance(refused, Refused)
    assert refused.rule == "principal.other"
    assert stage.rows(asked, "ApprovalRequested", "DryRunCode") == []
    assert ("execution.requested", "principal.other") in stage.facts(asked)


async def test_a_person_may_ask_governance_directly_in_a_conversation_of_ones_own(stage: Stage) -> None:
    await stage.host()
    code = Code(language="sql", text="SELECT c_name FROM tpch.customer")
    sent = stage.client("eli").send("GovernanceAgent", RequestExecution(question="q", code=code))
    approval = await stage.pending(sent)
    stage.decide("ada", approval)
    await eventually(lambda: stage.rows(sent, "CodeRun"))
    assert stage.rows(sent, "CodeRun")[0].to_agent == "user:eli"


@pytest.mark.parametrize(
    ("user", "language", "rule"),
    [
        ("ana", "sql", "rbac.sql.execute"),
        ("kim", "sql", "rbac.sql.execute"),
        ("bob", "sql", "rbac.sql.execute"),
        ("eli", "python", "default.deny"),
    ],
)
async def test_what_may_not_be_asked_is_refused_before_the_dry_run(
    stage: Stage, user: str, language: str, rule: str
) -> None:
    await stage.host()
    code = Code(language=language, text="SELECT 1")
    sent = stage.client(user).send("GovernanceAgent", RequestExecution(question="q", code=code))
    refused = await stage.reply_to(sent)
    assert (type(refused), refused.rule) == (Refused, rule)
    assert ("execution.requested", rule) in stage.facts(sent)
    assert stage.rows(sent, "DryRunCode") == []


async def test_only_the_executors_word_on_a_dry_run_counts(stage: Stage) -> None:
    workers = [w for w in stage.workers() if w.name != "ExecutionAgent"]
    await stage.host(*workers)
    asked = stage.ask("eli")
    (dry_run,) = await eventually(lambda: stage.rows(asked, "DryRunCode"))
    lies = CodeDryRun(
        code_sha256="0" * 64, statement_class="read", columns=[], table_versions={}, plan="", digest="0" * 64
    )
    said = [
        stage.say("CodeAgent", "GovernanceAgent", lies, dry_run),
        stage.say("user:ada", "GovernanceAgent", lies, dry_run),
        stage.say("user:ada", "GovernanceAgent", Failed(rule="x", reason="ada says so"), dry_run),
        stage.say("CodeAgent", "GovernanceAgent", Refused(rule="x", reason="code says so"), dry_run),
    ]
    await stage.settled(*said)
    assert stage.rows(asked, "ApprovalRequested", "Answered") == []
    assert not any(m.from_agent == "GovernanceAgent" for m in stage.rows(asked, "Failed", "Refused"))
    assert stage.facts(asked).count(("dry_run.ignored", "dry_run.unasked")) == 4


async def test_only_governance_lets_an_approval_lapse(stage: Stage) -> None:
    await stage.host()
    asked = stage.ask("eli")
    approval = await stage.pending(asked)
    said = stage.say("user:ana", "GovernanceAgent", ExpireApprovals(approval_id=approval.id), asked)
    await stage.settled(said)
    assert stage.rows(asked, "ApprovalDecided") == []
    assert (await stage.reply_to(stage.decide("ada", approval))).accepted


async def test_a_decision_that_waits_behind_another_sees_what_became_of_it(stage: Stage) -> None:
    host = await stage.host()
    asked = stage.ask("eli")
    approval = await stage.pending(asked)
    await stage.stop(host)
    yes, no = stage.decide("ada", approval), stage.decide("ada", approval, "reject")
    await stage.host()
    assert (await stage.reply_to(yes)).accepted
    assert (await stage.reply_to(no)).rule == "approval.decided"
    assert (await stage.answer(asked)).status == "answered"


async def test_a_timer_that_rings_after_the_decision_changes_nothing(stage: Stage) -> None:
    await stage.host()
    asked = stage.ask("eli")
    approval = await stage.pending(asked)
    stage.decide("ada", approval)
    await stage.answer(asked)
    (timer,) = stage.rows(asked, "ExpireApprovals")
    stage.clock.advance(3601)
    await stage.settled(timer)
    assert [a.decision for a in stage.payloads(asked, "ApprovalDecided")] == ["approved"]
    assert len(stage.rows(asked, "Answered")) == 1
    assert stage.rows(asked, "Refused") == []
