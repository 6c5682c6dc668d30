"""Documents: nothing becomes knowledge but the very text that another person has approved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bus.log.table import DeltaLog
from schemas.payloads import AddDocument, ApprovalGranted, Grant, RevokeGrant
from tests.fakes import FakeCatalog, FakeIndex, eventually, policy_of
from tests.unit.agents.stage import Stage
from workers.adapters.knowledge.documents import BadDocument, parse
from workers.rag.agent import RAGAgent

TEXT = "---\ntitle: Prices\n---\n# Prices\n\nA price is what is paid.\n"


class Shelf:
    """A library in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.fails: Exception | None = None

    def check(self, name: str, text: str) -> str:
        return parse(name, text).sha256

    def add(self, name: str, text: str) -> bool:
        if self.fails is not None:
            raise self.fails
        new = self.kept.get(name) != text
        self.kept[name] = text
        return new


@pytest.fixture
async def stage(tmp_path: Path) -> Any:
    made = Stage(tmp_path, policy=curated())
    yield made
    await made.close()


def curated(effect: str = "approve") -> Any:
    rule = {"id": "document.curated", "effect": effect, "reason": "r", "when": {"subject": ["document"]}}
    if effect == "approve":
        rule["approval"] = {"needs": [{"group": "knowledge_curator", "count": 1}]}
    return policy_of(rule)


def keeper(shelf: Shelf) -> RAGAgent:
    return RAGAgent(FakeIndex(), FakeCatalog(), library=shelf)


async def opened(stage: Stage) -> Shelf:
    shelf = Shelf()
    await stage.host(*stage.workers()[2:3], keeper(shelf))
    return shelf


def add(stage: Stage, user: str = "eli", text: str = TEXT) -> Any:
    return stage.client(user).send("RAGAgent", AddDocument(name="prices", text=text))


async def test_a_document_is_kept_once_a_curator_has_read_it(stage: Stage) -> None:
    shelf = await opened(stage)
    sent = add(stage)
    approval = await stage.pending(sent)
    assert approval.requested.code.text == TEXT, "whoever approves reads all of it"
    assert shelf.kept == {}
    assert (await stage.reply_to(stage.decide("eli", approval))).rule == "approval.own_request"
    assert (await stage.reply_to(stage.decide("kim", approval))).accepted
    answer = await stage.answer(sent)
    assert (answer.status, "approved by kim" in answer.answer) == ("answered", True)
    assert shelf.kept == {"prices": TEXT}
    assert ("document.added", "document.curated") in stage.facts(sent)


async def test_a_curator_does_not_approve_a_document_of_their_own(stage: Stage) -> None:
    await opened(stage)
    approval = await stage.pending(add(stage, "kim"))
    assert (await stage.reply_to(stage.decide("kim", approval))).rule == "approval.own_request"


@pytest.mark.parametrize(("decision", "rule"), [("reject", "approval.rejected"), ("changes", "approval.changes")])
async def test_what_is_not_approved_is_not_kept_and_whoever_asked_is_told(
    stage: Stage, decision: str, rule: str
) -> None:
    shelf = await opened(stage)
    sent = add(stage)
    stage.decide("kim", await stage.pending(sent), decision, reason="who says so?")
    refused = await stage.reply_to(sent)
    assert (refused.rule, "who says so?" in refused.reason) == (rule, True)
    assert shelf.kept == {}


async def test_a_policy_may_let_documents_in_by_itself(stage: Stage) -> None:
    stage.policy = curated("allow")
    shelf = await opened(stage)
    assert "rule document.curated" in (await stage.answer(add(stage))).answer
    assert shelf.kept == {"prices": TEXT}


@pytest.mark.parametrize("text", ["# no front matter", "---\nrole: [admin]\ntitle: x\n---\ntext"])
async def test_what_cannot_be_read_is_not_asked_about(stage: Stage, text: str) -> None:
    await opened(stage)
    sent = add(stage, text=text)
    failed = await stage.reply_to(sent)
    assert (failed.rule, "prices.md:" in failed.reason) == ("document.unreadable", True)
    assert stage.rows(sent, "RequestApproval") == []


async def test_nobody_adds_in_anothers_conversation(stage: Stage) -> None:
    shelf = await opened(stage)
    sent = add(stage)
    said = stage.say("user:ada", "RAGAgent", AddDocument(name="other", text=TEXT), sent)
    assert (await stage.reply_to(said)).rule == "principal.other"
    assert shelf.kept == {}


def forged(stage: Stage, **changed: Any) -> ApprovalGranted:
    fields = {
        "grant_id": "grant-forged",
        "approval_id": "apr-x",
        "code_sha256": parse("prices", TEXT).sha256,
        "dialect": "document",
        "target": "prices",
        "dry_run_digest": parse("prices", TEXT).sha256,
        "table_versions": {},
        "requester": "eli",
        "approved_by": "kim",
        "approvers": ["kim"],
        "rule": "r",
        "issued_at": stage.now,
        "expires_at": stage.now + 1_000_000,
        "subject": "document",
    }
    return ApprovalGranted(grant=Grant.model_validate(fields | changed))


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({}, "grant.approval"),  # kim has signed nothing
        ({"approvers": []}, "grant.approval"),
        ({"approvers": ["eli"]}, "grant.four_eyes"),
        ({"dry_run_digest": "0" * 64}, "grant.document"),
        ({"subject": "promotion"}, "grant.document"),
        ({"expires_at": 0}, "grant.expired"),
    ],
)
async def test_a_grant_is_not_believed_but_looked_at(stage: Stage, changed: dict[str, Any], rule: str) -> None:
    """Even governance's own key does not get a text in that nobody has approved."""
    shelf = Shelf()
    await stage.host(keeper(shelf))
    sent = add(stage)
    said = stage.say("GovernanceAgent", "RAGAgent", forged(stage, **changed), sent)
    await stage.settled(said)
    (refused,) = [row for row in stage.rows(sent, "Refused") if row.to_agent == "user:eli"]
    assert f'"rule":"{rule}"' in refused.content
    assert shelf.kept == {}


async def test_only_governance_grants(stage: Stage) -> None:
    shelf = Shelf()
    await stage.host(keeper(shelf))
    sent = add(stage)
    for sender in ("CodeAgent", "user:kim"):
        await stage.settled(stage.say(sender, "RAGAgent", forged(stage, approval_id=None), sent))
    assert shelf.kept == {}
    assert stage.facts(sent).count(("document.ignored", "document.unasked")) == 2


async def test_a_grant_that_was_taken_back_adds_nothing(stage: Stage) -> None:
    shelf = Shelf()
    governance = stage.workers()[2]
    await stage.host(governance)
    running = await stage.host(keeper(shelf))
    sent = add(stage)
    approval = await stage.pending(sent)
    await stage.stop(running)
    stage.decide("kim", approval)
    (granted,) = await eventually(lambda: stage.payloads(sent, "ApprovalGranted"))
    revoke = RevokeGrant(grant_id=granted.grant.grant_id)
    where = {"correlation_id": sent.correlation_id, "causation_id": sent.message_id}
    assert (await stage.reply_to(stage.client("kim").send("GovernanceAgent", revoke, **where))).accepted
    await stage.host(keeper(shelf))
    assert (await stage.reply_to(sent)).rule == "grant.revoked"
    assert shelf.kept == {}


async def test_a_document_that_cannot_be_kept_is_a_failure(stage: Stage) -> None:
    shelf = await opened(stage)
    shelf.fails = BadDocument("the disk is full")
    sent = add(stage)
    stage.decide("kim", await stage.pending(sent))
    failed = await stage.reply_to(sent)
    assert (failed.rule, failed.reason) == ("document.not_added", "the disk is full")


def test_the_store_is_such_a_library(tmp_path: Path) -> None:
    from schemas.tables import KNOWLEDGE_CHUNKS, KNOWLEDGE_DOCUMENTS
    from workers.adapters.knowledge.store import KnowledgeStore

    documents = DeltaLog(tmp_path / "documents", KNOWLEDGE_DOCUMENTS)
    chunks = DeltaLog(tmp_path / "chunks", KNOWLEDGE_CHUNKS)
    documents.create()
    chunks.create()
    store = KnowledgeStore(documents, chunks)
    assert (store.add("prices", TEXT), store.add("prices", TEXT)) == (True, False)
    assert [one["document"] for one in store.documents()] == ["prices"]
    assert store.documents()[0]["sha256"] == store.check("prices", TEXT)
