"""Approvals by several people: who counts, once; delegation, reminders, escalation, changes, and what a new policy does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.payloads import Code, Delegate, EndDelegation, RequestApproval, RequestExecution, RunCode
from tests.fakes import eventually, policy_of, sample_policy
from tests.unit.agents.stage import ENVIRONMENT, Stage
from workers.governance.agent import GovernanceAgent
from workers.governance.approvals import Approval, approvals
from workers.governance.policy import PolicyEngine

SQL = Code(language="sql", text="SELECT c_name FROM tpch.customer")
HOUR = 3600 * 1_000_000


def needs(**counts: int) -> list[dict[str, Any]]:
    return [{"group": group, "count": count} for group, count in counts.items()]


def asking(groups: dict[str, list[str]] | None = None, **approval: Any) -> PolicyEngine:
    rule = {
        "id": "test.asks",
        "effect": "approve",
        "reason": "people are asked",
        "when": {"subject": ["execution"], "classes": ["read", "create"]},
        "approval": {"needs": needs(admin=1)} | approval,
    }
    return policy_of(rule, **(groups or {}))


async def begun(stage: Stage, policy: PolicyEngine, user: str = "eli") -> Approval:
    stage.policy = policy
    await stage.host()
    return await stage.pending(stage.ask(user))


async def said(stage: Stage, user: str, approval: Approval, decision: str = "approve", **changed: Any) -> Any:
    return await stage.reply_to(stage.decide(user, approval, decision, **changed))


async def lend(stage: Stage, owner: str, to: str, hours: float = 1.0) -> Any:
    until = stage.now + round(hours * HOUR)
    return await stage.reply_to(stage.client(owner).send("GovernanceAgent", Delegate(to_user=to, until=until)))


async def rings(stage: Stage, approval: Approval, seconds: float, kind: str) -> None:
    """Time passes until that clock of governance has rung and was heard."""
    clocks = await eventually(lambda: stage.rows(approval.message, kind))
    await eventually(lambda: stage.clock._sleepers)
    stage.clock.advance(seconds)
    await stage.settled(clocks[0])


def now(stage: Stage, approval: Approval) -> Approval:
    return approvals(stage.rows(approval.message))[approval.id]


# --- n of m ---------------------------------------------------------------------------------------------------------


async def test_all_that_a_rule_needs_have_to_say_yes(stage: Stage) -> None:
    policy = asking({"finance": ["kim", "ned"]}, needs=needs(admin=2, finance=1))
    approval = await begun(stage, policy)
    assert [(n.group, n.count) for n in approval.requested.needs] == [("admin", 2), ("finance", 1)]
    assert approval.requested.policy == policy.digest
    for user in ("ada", "kim"):
        answer = await said(stage, user, approval)
        assert (answer.accepted, answer.rule) == (True, "test.asks")
        assert "still needed: 1 of admin" in answer.reason or user == "ada"
    votes = stage.payloads(approval.message, "ApprovalVoted")
    assert [(v.actor, v.group, [(n.group, n.count) for n in v.remaining]) for v in votes] == [
        ("ada", "admin", [("admin", 1), ("finance", 1)]),
        ("kim", "finance", [("admin", 1)]),
    ]
    assert stage.rows(approval.message, "RunCode", "ApprovalDecided") == []
    assert (await said(stage, "bea", approval)).accepted
    (run,) = await eventually(lambda: stage.payloads(approval.message, "RunCode"))
    assert run.grant.approvers == ["ada", "kim", "bea"]
    assert (run.grant.approved_by, run.grant.environment) == ("bea", ENVIRONMENT)
    assert run.grant.policy == policy.digest
    assert (await stage.answer(approval.message)).status == "answered"
    (ended,) = stage.payloads(approval.message, "ApprovalDecided")
    assert (ended.decision, ended.actors) == ("approved", ["ada", "kim", "bea"])


@pytest.mark.parametrize(
    ("user", "rule"),
    [
        ("ada", "approval.voted"),  # said yes already
        ("bea", "approval.enough"),  # one admin is enough; a curator is lacking
        ("eli", "approval.own_request"),
        ("ned", "rbac.execution.approve"),
        ("rob", "approval.bot"),
    ],
)
async def test_a_yes_that_does_not_count_is_told_why(stage: Stage, user: str, rule: str) -> None:
    approval = await begun(stage, asking(needs=needs(admin=1, knowledge_curator=1)))
    assert (await said(stage, "ada", approval)).accepted
    answer = await said(stage, user, approval)
    assert (answer.accepted, answer.rule) == (False, rule)
    assert ("approval.refused", rule) in stage.facts(approval.message)
    assert (await said(stage, "kim", approval)).accepted
    assert len(stage.engine.ran or await eventually(lambda: stage.engine.ran)) == 1


async def test_who_may_decide_at_all_but_is_not_of_the_group_is_refused(stage: Stage) -> None:
    approval = await begun(stage, asking({"finance": ["kim"]}, needs=needs(finance=1)))
    assert (await said(stage, "ada", approval)).rule == "approval.group"
    assert (await said(stage, "kim", approval)).accepted


async def test_of_several_votes_that_waited_each_sees_those_before_it(stage: Stage) -> None:
    stage.policy = asking(needs=needs(admin=2))
    host = await stage.host()
    approval = await stage.pending(stage.ask("eli"))
    await stage.stop(host)
    votes = [stage.decide(user, approval) for user in ("ada", "ada", "bea", "bea")]
    await stage.host()
    assert [(await stage.reply_to(vote)).rule for vote in votes] == [
        "test.asks",
        "approval.voted",
        "test.asks",
        "approval.decided",
    ]
    assert len(stage.rows(approval.message, "RunCode")) == 1


async def test_one_no_ends_what_others_agreed_to(stage: Stage) -> None:
    approval = await begun(stage, asking(needs=needs(admin=2)))
    await said(stage, "ada", approval)
    await said(stage, "bea", approval, "reject", reason="too much")
    answer = await stage.answer(approval.message)
    assert (answer.refusal.rule, "bea rejected it: too much" in answer.answer) == ("approval.rejected", True)
    assert stage.engine.ran == []


async def test_changes_are_told_and_an_edited_request_is_another_one(stage: Stage) -> None:
    approval = await begun(stage, asking())
    assert (await said(stage, "ada", approval, "changes", reason="only this year")).accepted
    answer = await stage.answer(approval.message)
    assert (answer.status, answer.refusal.rule) == ("refused", "approval.changes")
    assert "only this year" in answer.answer
    assert now(stage, approval).status == "changes_requested"
    assert (await said(stage, "ada", approval)).rule == "approval.decided"
    edited = Code(language="sql", text=SQL.text + " LIMIT 1")
    sent = stage.client("eli").send("GovernanceAgent", RequestExecution(question="q", code=edited))
    other = await stage.pending(sent)
    assert other.id != approval.id
    assert other.requested.digest != approval.requested.digest
    assert stage.engine.ran == []


# --- delegation -----------------------------------------------------------------------------------------------------


async def test_a_delegate_decides_in_anothers_name(stage: Stage) -> None:
    approval = await begun(stage, asking())
    assert (await said(stage, "kim", approval, for_user="ada")).rule == "delegation.none"
    assert (await lend(stage, "ada", "kim")).accepted
    assert (await said(stage, "kim", approval)).rule == "rbac.execution.approve", "without the name it is kim's own"
    assert (await said(stage, "kim", approval, for_user="ada")).accepted
    (run,) = await eventually(lambda: stage.payloads(approval.message, "RunCode"))
    assert run.grant.approvers == ["kim"]
    assert (await stage.answer(approval.message)).status == "answered"


async def test_a_delegation_ends_by_time_and_by_word_and_survives_a_restart(stage: Stage) -> None:
    stage.policy = asking(expires_after_s=20_000)
    host = await stage.host()
    approval = await stage.pending(stage.ask("eli"))
    lent = await lend(stage, "ada", "kim")
    await stage.stop(host)
    stage.lent = type(stage.lent)(stage.lent._events)  # another process, which has seen nothing yet
    await stage.host()
    stage.clock.advance(3601)
    assert (await said(stage, "kim", approval, for_user="ada")).rule == "delegation.none"
    again = await lend(stage, "ada", "kim", 2)
    end = EndDelegation(delegation_id=again.delegation_id)
    assert (await stage.reply_to(stage.client("eli").send("GovernanceAgent", end))).rule == "delegation.other"
    assert (await stage.reply_to(stage.client("kim").send("GovernanceAgent", end))).accepted, "it may be given back"
    assert (await stage.reply_to(stage.client("ada").send("GovernanceAgent", end))).rule == "delegation.over"
    assert (await said(stage, "kim", approval, for_user="ada")).rule == "delegation.none"
    over = EndDelegation(delegation_id=lent.delegation_id)
    assert (await stage.reply_to(stage.client("ada").send("GovernanceAgent", over))).rule == "delegation.over"
    assert stage.engine.ran == []


async def test_a_vote_counts_by_what_the_log_says_before_it(stage: Stage) -> None:
    """Not by what is known when it is handled: a right that is lent after the vote was not lent then."""
    stage.policy = asking()
    host = await stage.host()
    approval = await stage.pending(stage.ask("eli"))
    await stage.stop(host)
    early = stage.decide("kim", approval, for_user="ada")
    lent = stage.client("ada").send("GovernanceAgent", Delegate(to_user="kim", until=stage.now + HOUR))
    await stage.host()
    assert (await stage.reply_to(lent)).accepted
    assert (await stage.reply_to(early)).rule == "delegation.none"
    (placed,) = [row for row in stage.rows(early) if row.message_id == early.message_id]
    assert len(stage.lent.as_of((len(stage.log.commits), 0))) == 1
    assert stage.lent.as_of(placed.position) == [], "as a replay asks, which knows what came later"


@pytest.mark.parametrize(
    ("owner", "to", "hours", "rule"),
    [
        ("ada", "ada", 1, "delegation.oneself"),
        ("ada", "kim", 0, "delegation.over"),
        ("ada", "kim", 24 * 32, "delegation.too_long"),
        ("ada", "zoe", 1, "delegation.unknown_user"),
        ("zoe", "ada", 1, "delegation.unknown_user"),
        ("ada", "rob", 1, "delegation.bot"),
    ],
)
async def test_what_cannot_be_lent_is_refused(stage: Stage, owner: str, to: str, hours: float, rule: str) -> None:
    await stage.host()
    answer = await lend(stage, owner, to, hours)
    assert (answer.accepted, answer.rule) == (False, rule)


async def test_no_way_of_lending_lets_the_requester_or_one_person_count_twice(stage: Stage) -> None:
    approval = await begun(stage, asking(needs=needs(admin=2)))
    for owner, to in (("ada", "eli"), ("ada", "kim"), ("kim", "ned"), ("bea", "ada"), ("eli", "bea")):
        assert (await lend(stage, owner, to)).accepted
    refused = [
        ("eli", "ada", "approval.own_request"),  # the requester, in another's name
        ("kim", "eli", "approval.own_request"),  # another, in the requester's name
        ("bea", None, "approval.requesters_delegate"),
        ("ada", "bea", "approval.requesters_delegate"),  # whose right it is has the requester's
        ("ned", "ada", "delegation.none"),  # no chain: ada -> kim -> ned
        ("ned", "kim", "rbac.execution.approve"),  # kim has none of her own to lend
    ]
    for actor, owner, rule in refused:
        answer = await said(stage, actor, approval, for_user=owner)
        assert (answer.accepted, answer.rule) == (False, rule), (actor, owner)
    assert (await said(stage, "kim", approval, for_user="ada")).accepted
    assert (await said(stage, "ada", approval)).rule == "approval.voted", "her right was used in her name"
    assert stage.rows(approval.message, "RunCode") == []


async def test_a_delegation_that_nobody_signed_lends_nothing(stage: Stage) -> None:
    from bus.keys import Keyring
    from schemas.payloads import DelegationChanged
    from tests.unit.agents.stage import TABLE

    keyring = Keyring.load(stage.keys)
    stage.lent = type(stage.lent)(stage.lent._events, lambda row: keyring.accepts(row, TABLE, ENVIRONMENT))
    approval = await begun(stage, asking())
    forged = DelegationChanged(delegation_id="d", from_user="ada", to_user="kim", until=stage.now + HOUR)
    stage.forge("GovernanceAgent", "*", forged, approval.message)
    assert (await said(stage, "kim", approval, for_user="ada")).rule == "delegation.none"
    await lend(stage, "ada", "kim")
    assert (await said(stage, "kim", approval, for_user="ada")).accepted


# --- while nobody decides -------------------------------------------------------------------------------------------


async def test_people_are_reminded_then_others_may_decide_then_it_lapses(stage: Stage) -> None:
    policy = asking(
        {"stewards": ["kim", "ned"]},
        needs=needs(admin=2),
        remind_after_s=60,
        escalate_after_s=120,
        escalate_to=needs(stewards=1),
        expires_after_s=180,
    )
    approval = await begun(stage, policy)
    assert (await said(stage, "kim", approval)).rule == "rbac.execution.approve"
    assert (await said(stage, "bea", approval)).accepted
    await rings(stage, approval, 61, "RemindApprovers")
    assert stage.payloads(approval.message, "ApprovalReminded")[0].waiting_for == ["admin"]
    await rings(stage, approval, 60, "EscalateApproval")
    assert now(stage, approval).escalated is not None
    assert (await said(stage, "kim", approval)).accepted
    assert (await stage.answer(approval.message)).status == "answered"
    (run,) = stage.payloads(approval.message, "RunCode")
    assert run.grant.approvers == ["bea", "kim"]
    await rings(stage, approval, 60, "ExpireApprovals")
    assert [one.decision for one in stage.payloads(approval.message, "ApprovalDecided")] == ["approved"]


async def test_what_was_half_approved_lapses_and_says_what_was_lacking(stage: Stage) -> None:
    approval = await begun(stage, asking(needs=needs(admin=2), remind_after_s=30, expires_after_s=60))
    await said(stage, "ada", approval)
    await rings(stage, approval, 61, "ExpireApprovals")
    answer = await stage.answer(approval.message)
    assert (answer.refusal.rule, "still needed: 1 of admin" in answer.answer) == ("approval.expired", True)
    assert (await said(stage, "bea", approval)).rule == "approval.decided"


@pytest.mark.parametrize("kind", ["RemindApprovers", "EscalateApproval"])
async def test_nobody_else_rings_a_clock_of_governance(stage: Stage, kind: str) -> None:
    from schemas.payloads import KINDS

    policy = asking(escalate_after_s=60, escalate_to=needs(knowledge_curator=1))
    approval = await begun(stage, policy)
    for sender in ("user:kim", "CodeAgent"):
        rung = stage.say(sender, "GovernanceAgent", KINDS[kind](approval_id=approval.id), approval.message)
        await stage.settled(rung)
    assert stage.rows(approval.message, "ApprovalReminded", "ApprovalEscalated") == []
    assert (await said(stage, "kim", approval)).rule == "rbac.execution.approve"


# --- by the policy alone --------------------------------------------------------------------------------------------


def allowing(**when: Any) -> PolicyEngine:
    rule = {"id": "small.reads", "effect": "allow", "reason": "nobody needs to be asked", "when": when}
    return policy_of(rule, sample_policy().policy.rules[0].model_dump(exclude_none=True))


async def test_what_a_rule_allows_is_granted_at_once_and_names_it(stage: Stage) -> None:
    stage.policy = allowing(subject=["execution"], classes=["create"])
    await stage.host()
    asked = stage.ask("eli")
    assert (await stage.answer(asked)).status == "answered"
    (run,) = stage.payloads(asked, "RunCode")
    grant = run.grant
    assert (grant.approval_id, grant.approved_by, grant.approvers) == (None, "policy", [])
    assert (grant.rule, grant.policy) == ("small.reads", stage.policy.digest)
    assert stage.rows(asked, "ApprovalRequested", "Decide") == []
    assert ("grant.issued", "small.reads") in stage.facts(asked)


async def test_nobody_vouches_for_themselves(stage: Stage) -> None:
    """A rule may let happen what its writer is sure of; a person who asks directly could always be sure."""
    stage.policy = allowing(subject=["execution"], confidence_at_least=0.9)
    await stage.host()
    sure = RequestExecution(question="q", code=SQL, confidence=1.0)
    sent = stage.client("eli").send("GovernanceAgent", sure)
    await stage.pending(sent)
    assert stage.rows(sent, "RunCode") == []
    asked = stage.ask("ned", "Generate SQL for the top customers")
    await stage.answer(asked)
    by_agent = stage.say("OrchestratorAgent", "GovernanceAgent", sure, asked, message_type="request")
    await stage.settled(by_agent)
    await eventually(lambda: stage.rows(asked, "RunCode"))


async def test_every_decision_names_rule_and_policy(stage: Stage) -> None:
    approval = await begun(stage, asking())
    await said(stage, "eli", approval)
    await said(stage, "ada", approval)
    facts = [f for f in stage.payloads(approval.message, "AuditRecorded") if f.action.startswith(("approval", "grant"))]
    assert {f.action for f in facts} == {"approval.requested", "approval.refused", "grant.issued"}
    assert all(f.rule and f.details["policy"] == stage.policy.digest for f in facts)


# --- another policy -------------------------------------------------------------------------------------------------


async def changed(stage: Stage, before: PolicyEngine, after: PolicyEngine) -> tuple[Approval, Any]:
    """An approval asked under one policy, and ada's yes under another."""
    stage.policy = before
    host = await stage.host()
    approval = await stage.pending(stage.ask("eli"))
    await stage.stop(host)
    stage.policy = after
    await stage.host()
    return approval, await said(stage, "ada", approval)


async def test_a_yes_under_an_older_policy_asks_those_whom_the_new_one_asks(stage: Stage) -> None:
    approval, answer = await changed(stage, asking(), asking(needs=needs(admin=2)))
    assert (answer.accepted, answer.rule) == (False, "approval.policy_changed")
    assert stage.rows(approval.message, "RunCode") == []
    fresh = next(one for one in approvals(stage.rows(approval.message)).values() if one.decided is None)
    assert fresh.requested.again == "the policy has changed"
    for user in ("ada", "bea"):
        assert (await said(stage, user, fresh)).accepted
    assert (await stage.answer(approval.message)).status == "answered"


async def test_what_the_new_policy_forbids_is_refused(stage: Stage) -> None:
    forbids = {"id": "test.never", "effect": "deny", "reason": "not any more", "when": {"classes": ["create"]}}
    approval, _ = await changed(stage, asking(), policy_of(forbids))
    answer = await stage.answer(approval.message)
    assert answer.refusal.rule == "test.never"
    assert stage.engine.ran == []


async def test_a_new_policy_that_asks_the_same_people_changes_nothing(stage: Stage) -> None:
    other = asking({"unused": ["kim"]})
    approval, answer = await changed(stage, asking(), other)
    assert answer.accepted
    (run,) = await eventually(lambda: stage.payloads(approval.message, "RunCode"))
    assert run.grant.policy == other.digest


# --- what is no code ------------------------------------------------------------------------------------------------


def curated() -> PolicyEngine:
    rule = {
        "id": "document.curated",
        "effect": "approve",
        "reason": "somebody who knows has read it",
        "when": {"subject": ["document"]},
        "approval": {"needs": needs(knowledge_curator=1)},
    }
    return policy_of(rule)


async def test_a_document_is_granted_to_whoever_asked(stage: Stage) -> None:
    stage.policy = curated()
    await stage.host()
    asked = RequestApproval(subject="document", name="prices", digest="d" * 64, summary="# Prices")
    sent = stage.client("eli").send("GovernanceAgent", asked)
    approval = await stage.pending(sent)
    assert (approval.requested.subject, approval.requested.target) == ("document", "prices")
    assert (await said(stage, "ada", approval)).rule == "approval.group"
    assert (await said(stage, "kim", approval)).accepted
    grant = (await stage.reply_to(sent)).grant
    assert (grant.subject, grant.dry_run_digest, grant.approvers) == ("document", "d" * 64, ["kim"])
    assert stage.rows(sent, "RunCode") == []


@pytest.mark.parametrize(
    ("subject", "rule"),
    [("promotion", "rbac.model.promote"), ("retraining", "default.deny"), ("execution", "approval.subject")],
)
async def test_what_may_not_be_asked_for_is_refused_at_once(stage: Stage, subject: Any, rule: str) -> None:
    stage.policy = curated()
    await stage.host()
    asked = RequestApproval(subject=subject, name="n", digest="d" * 64, summary="s")
    refused = await stage.reply_to(stage.client("eli").send("GovernanceAgent", asked))
    assert refused.rule == rule


async def test_who_may_not_delete_deletes_nothing_whatever_the_policy_says(tmp_path: Path) -> None:
    from dataclasses import replace

    from tests.fakes import FakeEngine
    from workers.ports import DryRun, Statement

    class Deleting(FakeEngine):
        async def dry_run(self, statement: Statement) -> DryRun:
            return replace(await super().dry_run(statement), statement_class="delete")

    stage = Stage(tmp_path, Deleting(), allowing(subject=["execution"]))
    await stage.host()
    sent = stage.client("eli").send("GovernanceAgent", RequestExecution(question="q", code=SQL))
    assert (await stage.reply_to(sent)).rule == "rbac.sql.delete"
    sent = stage.client("ada").send("GovernanceAgent", RequestExecution(question="q", code=SQL))
    await eventually(lambda: stage.rows(sent, RunCode.kind()))
    await stage.close()


def test_the_agent_can_be_made_with_what_is_shipped() -> None:
    from config.settings import Settings
    from jobs.bootstrap import System

    system = System(Settings.load())
    assert GovernanceAgent(system.roles, system.policy, "dev").kinds().keys() >= {"Delegate", "RevokeGrant"}
