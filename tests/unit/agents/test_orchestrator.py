"""OrchestratorAgent: says no with a rule, delegates by plan, and goes on where the log says it was."""

from __future__ import annotations

import pytest

from schemas.payloads import Ask, Code, CodeGenerated, CodeRun, Failed, KnowledgeRetrieved, Refused, Result
from tests.fakes import eventually
from tests.unit.agents.stage import QUESTION, Stage
from workers.governance.approvals import approvals
from workers.runtime.host import Host


@pytest.mark.parametrize(
    ("user", "question", "rule"),
    [
        ("bob", "How are sales defined?", "rbac.unknown_user"),
        ("ana", QUESTION, "rbac.sql.execute"),
        ("kim", "Generate SQL for the top customers", "rbac.code.generate"),
        ("eli", "", "question.empty"),
        ("eli", " \n\t ", "question.empty"),
        ("eli", "why " * 25_000, "question.too_long"),
        ("eli", "x" * 4001, "question.too_long"),
    ],
)
async def test_what_may_not_be_asked_is_refused_with_its_rule_and_a_fact(
    stage: Stage, user: str, question: str, rule: str
) -> None:
    await stage.host()
    asked = stage.ask(user, question)
    answer = await stage.answer(asked)
    assert answer.status == "refused"
    assert answer.refusal is not None
    assert answer.refusal.rule == rule
    assert ("request.refused", rule) in stage.facts(asked)
    kinds = {m.kind for m in stage.rows(asked)}
    assert kinds == {"Ask", "Answered", "AuditRecorded"}


async def test_a_question_that_cannot_be_mapped_names_the_words(stage: Stage) -> None:
    await stage.host()
    asked = stage.ask("eli", "Generate SQL for unicorn sales")
    answer = await stage.answer(asked)
    assert (answer.status, answer.refusal.rule if answer.refusal else "") == ("failed", "code.could_not_map")
    assert "unicorn" in answer.answer
    assert ("code.not_mapped", "code.could_not_map") in stage.facts(asked)


async def test_a_bad_question_leaves_the_others_alone(stage: Stage) -> None:
    await stage.host()
    good = stage.ask("eli", "Generate SQL for the top customers")
    bad = [stage.ask(*question) for question in (("bob", "x"), ("ana", QUESTION), ("eli", ""), ("eli", "x" * 100_000))]
    assert (await stage.answer(good)).status == "answered"
    assert {(await stage.answer(one)).status for one in bad} == {"refused"}


@pytest.mark.parametrize(
    "late", [Failed(rule="late", reason="late"), Refused(rule="late", reason="late"), "run", "code"]
)
async def test_a_late_answer_changes_nothing(stage: Stage, late: object) -> None:
    await stage.host()
    asked = stage.ask("eli", "Generate SQL for the top customers")
    await stage.answer(asked)
    said = {
        "run": CodeRun(
            grant_id="g",
            question="q",
            code="c",
            result=Result(columns=[], rows=[]),
            row_count=0,
            requester="eli",
            approved_by="ada",
        ),
        "code": CodeGenerated(question="q", code=Code(language="sql", text="c"), explanation="", tables=[], columns=[]),
    }.get(late, late)
    await stage.settled(stage.say("CodeAgent", "OrchestratorAgent", said, asked))
    assert len(stage.rows(asked, "Answered")) == 1


async def test_two_answers_that_wait_together_end_the_conversation_once(stage: Stage) -> None:
    orchestrator, *_ = stage.workers()
    host = await stage.host(orchestrator)
    asked = stage.ask("eli", "Generate SQL for the top customers")
    await eventually(lambda: stage.rows(asked, "GenerateCode"))
    await stage.stop(host)
    said = [stage.say("CodeAgent", "OrchestratorAgent", Failed(rule=f"r{n}", reason="no"), asked) for n in range(3)]
    await stage.host(orchestrator)
    await stage.settled(*said)
    assert [a.refusal.rule for a in stage.payloads(asked, "Answered")] == ["r0"]


async def test_a_person_does_not_answer_for_an_agent(stage: Stage) -> None:
    orchestrator, *_ = stage.workers()
    await stage.host(orchestrator)
    asked = stage.ask("eli", "Generate SQL for the top customers")
    await eventually(lambda: stage.rows(asked, "GenerateCode"))
    lies = CodeGenerated(
        question="q", code=Code(language="sql", text="DROP TABLE x"), explanation="", tables=[], columns=[]
    )
    for payload in (
        Failed(rule="x", reason="x"),
        Refused(rule="x", reason="x"),
        lies,
        KnowledgeRetrieved(answer="x", sources=[]),
    ):
        await stage.settled(stage.say("user:ana", "OrchestratorAgent", payload, asked))
    assert stage.rows(asked, "Answered") == []
    assert stage.facts(asked).count(("answer.ignored", "answer.not_an_agent")) == 4


async def test_nobody_asks_with_another_persons_role(stage: Stage) -> None:
    await stage.host()
    asked = stage.ask("eli", "Generate SQL for the top customers")
    await stage.answer(asked)
    smuggled = stage.say("user:ana", "OrchestratorAgent", Ask(question=QUESTION), asked)
    refused = await stage.reply_to(smuggled)
    assert (type(refused), refused.rule) == (Refused, "principal.other")
    assert stage.rows(asked, "RequestExecution", "ApprovalRequested") == []


async def test_an_unsigned_answer_is_nobodys(stage: Stage) -> None:
    orchestrator, *_ = stage.workers()
    await stage.host(orchestrator)
    asked = stage.ask("eli", "Generate SQL for the top customers")
    await eventually(lambda: stage.rows(asked, "GenerateCode"))
    await stage.settled(stage.forge("CodeAgent", "OrchestratorAgent", Failed(rule="x", reason="forged"), asked))
    assert stage.rows(asked, "Answered") == []
    assert ("message.rejected", "signature.missing") in stage.facts(asked)


async def test_every_step_may_be_done_by_another_process(stage: Stage) -> None:
    """All agents are stopped and begun anew as soon as one of them has handled one message."""
    asked = stage.ask("eli")
    decided = False

    def receipts() -> int:
        return sum(row.message_type == "receipt" for commit in list(stage.log.commits) for row in commit)

    while not stage.rows(asked, "Answered"):
        if not decided and (waiting := approvals(stage.rows(asked))):
            stage.decide("ada", next(iter(waiting.values())))
            decided = True
        before = receipts()
        host: Host = await stage.host()
        await eventually(lambda before=before: receipts() > before)
        await stage.stop(host)
    (answer,) = stage.payloads(asked, "Answered")
    assert (answer.status, len(stage.engine.ran)) == ("answered", 1)
    kinds = [m.kind for m in stage.rows(asked) if m.message_type != "event"]
    assert kinds == [
        "Ask",
        "GenerateCode",
        "CodeGenerated",
        "RequestExecution",
        "DryRunCode",
        "CodeDryRun",
        "ExpireApprovals",
        "Decide",
        "RunCode",
        "DecisionAnswered",
        "CodeRun",
        "Answered",
    ]
