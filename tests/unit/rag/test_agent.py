from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from schemas.envelope import Message
from schemas.payloads import (
    AuditRecorded,
    Failed,
    FindResult,
    GenerateCode,
    KnowledgeRetrieved,
    Payload,
    Result,
    ResultFound,
    RetrieveKnowledge,
    Source,
)
from workers.ports import Passage, PortError, PublishedResult, Rows
from workers.rag.agent import RAGAgent
from workers.runtime.base import Context, Outgoing, Received

PASSAGE = Passage("sales", 2, "Sales", "The line discount counts. No other does.", 4.5, "matches discount")
PUBLISHED = PublishedResult("Top customers", "SELECT 1", "tpch.top", 7, "2026-03-01T10:30:00+00:00", "ada", "grant-1")


class FixedKnowledge:
    """Knows passages by role; `fails_with` is raised instead of an answer."""

    def __init__(self, fails_with: Exception | None = None, **passages: Sequence[Passage]) -> None:
        self.fails_with = fails_with
        self.passages = passages
        self.asked: list[tuple[str, str, int]] = []
        self.threads: set[threading.Thread] = set()

    def search(self, question: str, role: str, limit: int) -> Sequence[Passage]:
        self.asked.append((question, role, limit))
        self.threads.add(threading.current_thread())
        if self.fails_with:
            raise self.fails_with
        return self.passages.get(role, ())


class FixedResults:
    """Has published one result, or none."""

    def __init__(self, published: PublishedResult | None = None, fails_with: Exception | None = None) -> None:
        self.published = published
        self.fails_with = fails_with
        self.limits: list[int] = []

    def find(self, question: str) -> PublishedResult | None:
        return self.published

    def read(self, result: PublishedResult, limit: int) -> Rows:
        self.limits.append(limit)
        if self.fails_with:
            raise self.fails_with
        return Rows(("customer", "sales"), (("A", "1.50"), ("B", "1.00")), truncated=True)


async def sent(agent: RAGAgent, payload: Payload, sender: str = "OrchestratorAgent") -> tuple[AuditRecorded, Outgoing]:
    """What the agent sends: one audit fact and one answer."""
    message = Message(
        message_id="m",
        correlation_id="c",
        from_agent=sender,
        to_agent="RAGAgent",
        message_type="request",
        kind=payload.kind(),
        content=payload.model_dump_json(),
        timestamp=0,
        principal="ana",
    )

    async def commit(_: Sequence[Outgoing]) -> bool:
        raise AssertionError("this agent has no effects")

    context = Context((message,), "ana", datetime(2026, 1, 1, tzinfo=UTC), "i", 1, commit)
    [fact, answer] = await agent.handle(Received(message, payload), context)
    assert fact.message_type == "event"
    assert isinstance(fact.payload, AuditRecorded)
    assert (answer.to, answer.message_type) == (sender, "response")
    return fact.payload, answer


async def test_knowledge_is_answered_with_its_sources():
    index = FixedKnowledge(data_analyst=[PASSAGE])
    agent = RAGAgent(index, FixedResults(), limit=3)
    fact, answer = await sent(agent, RetrieveKnowledge(question="Which discount counts?", role="data_analyst"))
    assert answer.payload == KnowledgeRetrieved(
        answer="The line discount counts. [1]",
        sources=[Source(document="sales", chunk=2, score=4.5, why="matches discount")],
    )
    assert index.asked == [("Which discount counts?", "data_analyst", 3)]
    assert (fact.action, fact.decision) == ("knowledge.retrieved", "done")
    assert fact.details == {"role": "data_analyst", "sources": ["sales#2"], "parts_missing": 0}


async def test_the_role_of_the_payload_counts():
    agent = RAGAgent(FixedKnowledge(admin=[PASSAGE]), FixedResults())
    _, answer = await sent(agent, RetrieveKnowledge(question="Which discount counts?", role="data_analyst"))
    assert isinstance(answer.payload, Failed)
    _, answer = await sent(agent, RetrieveKnowledge(question="Which discount counts?", role="admin"))
    assert isinstance(answer.payload, KnowledgeRetrieved)


async def test_a_part_that_is_not_in_the_documents_is_said():
    agent = RAGAgent(FixedKnowledge(data_analyst=[PASSAGE]), FixedResults())
    question = f"Which discount counts, and how do I bake bread {'x' * 500}?"
    _, answer = await sent(agent, RetrieveKnowledge(question=question, role="data_analyst"))
    assert isinstance(answer.payload, KnowledgeRetrieved)
    start = "The line discount counts. [1] Not in the documents: how do I bake bread xxx"
    assert answer.payload.answer.startswith(start)
    assert answer.payload.answer.endswith("...")
    assert len(answer.payload.answer) < 200


async def test_nothing_found_says_what_was_searched_and_what_to_do():
    agent = RAGAgent(FixedKnowledge(), FixedResults())
    fact, answer = await sent(agent, RetrieveKnowledge(question="How do I bake bread?", role="data_analyst"))
    assert isinstance(answer.payload, Failed)
    assert answer.payload.rule == fact.rule == "knowledge.nothing_found"
    assert "data_analyst may read" in answer.payload.reason
    assert "'bake', 'bread'" in answer.payload.reason
    assert "knowledge curator" in answer.payload.reason
    assert (fact.action, fact.decision) == ("knowledge.retrieved", "failed")


@pytest.mark.parametrize(
    "question", ["", "what is it?", "x" * 100_000, "word " * 20_000, "".join(f"w{n} " for n in range(9999))]
)
async def test_an_odd_question_gets_a_short_reason(question: str):
    _, answer = await sent(
        RAGAgent(FixedKnowledge(), FixedResults()), RetrieveKnowledge(question=question, role="admin")
    )
    assert isinstance(answer.payload, Failed)
    assert answer.payload.rule == "knowledge.nothing_found"
    assert len(answer.payload.reason) < 700


@pytest.mark.parametrize("sender", ["user:ana", "CodeAgent", "RAGAgent", "orchestratoragent", "OrchestratorAgent2"])
async def test_a_role_is_believed_from_the_orchestrator_only(sender: str):
    index, results = FixedKnowledge(admin=[PASSAGE]), FixedResults(PUBLISHED)
    agent = RAGAgent(index, results)
    fact, answer = await sent(agent, RetrieveKnowledge(question="Which discount counts?", role="admin"), sender)
    assert isinstance(answer.payload, Failed)
    assert answer.payload.rule == fact.rule == "knowledge.sender"
    assert (fact.action, fact.decision) == ("knowledge.retrieved", "refused")
    fact, answer = await sent(agent, FindResult(question="Top customers", role="admin"), sender)
    assert isinstance(answer.payload, Failed)
    assert answer.payload.rule == fact.rule == "results.sender"
    assert index.asked == []
    assert results.limits == []


async def test_a_published_result_comes_with_its_date_approver_and_version():
    results = FixedResults(PUBLISHED)
    agent = RAGAgent(FixedKnowledge(), results, row_limit=2)
    fact, answer = await sent(agent, FindResult(question="best customers", role="data_analyst"))
    assert answer.payload == ResultFound(
        question="Top customers",
        result=Result(
            columns=["customer", "sales"],
            rows=[["A", "1.50"], ["B", "1.00"]],
            truncated=True,
            table="tpch.top",
            table_version=7,
        ),
        published_at="2026-03-01T10:30:00+00:00",
        approved_by="ada",
        grant_id="grant-1",
    )
    assert results.limits == [2]
    assert (fact.action, fact.decision) == ("result.read", "done")
    assert fact.details == {
        "role": "data_analyst",
        "table": "tpch.top",
        "table_version": 7,
        "grant_id": "grant-1",
        "rows": 2,
    }


async def test_without_a_published_result_it_says_who_can_make_one():
    fact, answer = await sent(RAGAgent(FixedKnowledge(), FixedResults()), FindResult(question="q", role="data_analyst"))
    assert isinstance(answer.payload, Failed)
    assert answer.payload.rule == fact.rule == "results.none_published"
    assert "A data engineer can run" in answer.payload.reason
    assert (fact.action, fact.decision) == ("result.read", "failed")


async def test_what_a_port_says_reaches_the_person():
    gone = FixedResults(PUBLISHED, fails_with=PortError("that version is gone"))
    _, answer = await sent(RAGAgent(FixedKnowledge(), gone), FindResult(question="q", role="admin"))
    assert answer.payload == Failed(rule="results.unreadable", reason="that version is gone")
    closed = FixedKnowledge(fails_with=PortError("no knowledge yet"))
    _, answer = await sent(RAGAgent(closed, FixedResults()), RetrieveKnowledge(question="q", role="admin"))
    assert answer.payload == Failed(rule="knowledge.unreadable", reason="no knowledge yet")


async def test_any_other_error_is_left_to_the_runner_which_tries_again():
    agent = RAGAgent(FixedKnowledge(fails_with=OSError("disk")), FixedResults())
    with pytest.raises(OSError, match="disk"):
        await sent(agent, RetrieveKnowledge(question="q", role="admin"))


async def test_searching_does_not_hold_up_the_other_conversations():
    index = FixedKnowledge()
    await sent(RAGAgent(index, FixedResults()), RetrieveKnowledge(question="q", role="admin"))
    assert threading.main_thread() not in index.threads


async def test_a_kind_it_does_not_handle_is_a_mistake_of_the_caller():
    with pytest.raises(TypeError, match="does not handle GenerateCode"):
        await sent(RAGAgent(FixedKnowledge(), FixedResults()), GenerateCode(question="q"))
