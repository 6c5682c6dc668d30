"""RAGAgent: answers from the knowledge that a role may read, and from results that governance has let run."""

from __future__ import annotations

import asyncio

from schemas.payloads import (
    AddDocument,
    ApprovalGranted,
    Failed,
    FindResult,
    KnowledgeRetrieved,
    Refused,
    Result,
    ResultFound,
    RetrieveKnowledge,
    Source,
)
from workers.ports import KnowledgeIndex, KnowledgeLibrary, Passage, PortError, ResultCatalog
from workers.rag.answer import compose
from workers.rag.documents import Librarian
from workers.rag.words import terms
from workers.runtime.base import Context, Outgoing, Received, Worker, audit, reply

#: The one agent whose word about a role counts; it took the role from the signed root of the conversation.
ORCHESTRATOR = "OrchestratorAgent"
#: Words of a question that a refusal repeats, and characters of each.
WORDS_NAMED, WORD_LENGTH = 8, 40
#: Characters of a part of a question that an answer repeats as missing.
PART_LENGTH = 100


class RAGAgent(Worker):
    """Answers RetrieveKnowledge and FindResult, or Failed with what to do instead. It never executes anything.

    AddDocument adds to the knowledge, once governance has granted it.
    """

    handles = (RetrieveKnowledge, FindResult, AddDocument, ApprovalGranted, Failed, Refused)

    def __init__(
        self,
        index: KnowledgeIndex,
        results: ResultCatalog,
        limit: int = 4,
        row_limit: int = 1000,
        library: KnowledgeLibrary | None = None,
    ) -> None:
        """`limit`: passages an answer may rest on; `row_limit`: rows of a published result that are sent."""
        self._librarian = Librarian(library) if library is not None else None
        self._index = index
        self._results = results
        self._limit = limit
        self._row_limit = row_limit

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        if self._librarian is not None:
            match message.payload:
                case AddDocument() as document:
                    return self._librarian.asked(document, message, context)
                case ApprovalGranted() as granted:
                    return await self._librarian.granted(granted, message, context)
                case Failed() | Refused() as outcome:
                    return self._librarian.not_granted(outcome, message, context)
        match message.payload:
            case RetrieveKnowledge() as asked:
                action, subject = "knowledge.retrieved", "knowledge"
                work = self._retrieve
            case FindResult() as asked:
                action, subject = "result.read", "results"
                work = self._read
            case other:
                raise TypeError(f"RAGAgent does not handle {other.kind()}")
        if message.sender != ORCHESTRATOR:
            reason = f"A role is believed from {ORCHESTRATOR} only, not from {message.sender}; use `tailrace ask`."
            refusal = audit(action, "refused", rule=f"{subject}.sender", reason=reason, role=asked.role)
            return [refusal, reply(message, Failed(rule=f"{subject}.sender", reason=reason))]
        try:
            answer, details = await asyncio.to_thread(work, asked.question, asked.role)
        except PortError as error:
            answer, details = Failed(rule=f"{subject}.unreadable", reason=str(error)), {}
        if isinstance(answer, Failed):
            fact = audit(action, "failed", rule=answer.rule, reason=answer.reason, role=asked.role)
        else:
            fact = audit(action, "done", role=asked.role, **details)
        return [fact, reply(message, answer)]

    def _retrieve(self, question: str, role: str) -> tuple[KnowledgeRetrieved | Failed, dict[str, object]]:
        answer = compose(question, self._index.search(question, role, self._limit))
        if answer is None:
            return Failed(rule="knowledge.nothing_found", reason=_nothing_found(question, role)), {}
        sources = [_source(passage) for passage in answer.cited]
        named = [f"{source.document}#{source.chunk}" for source in sources]
        text = " ".join([answer.text, *(f"Not in the documents: {_short(part)}" for part in answer.missing)])
        return KnowledgeRetrieved(answer=text, sources=sources), {
            "sources": named,
            "parts_missing": len(answer.missing),
        }

    def _read(self, question: str, role: str) -> tuple[ResultFound | Failed, dict[str, object]]:
        published = self._results.find(question)
        if published is None:
            return Failed(rule="results.none_published", reason=_none_published(role)), {}
        rows = self._results.read(published, self._row_limit)
        result = Result(
            columns=list(rows.columns),
            rows=[list(row) for row in rows.rows],
            truncated=rows.truncated,
            table=published.table,
            table_version=published.table_version,
        )
        found = ResultFound(
            question=published.question,
            result=result,
            published_at=published.executed_at,
            approved_by=published.approved_by,
            grant_id=published.grant_id,
        )
        facts = {"table": published.table, "table_version": published.table_version, "grant_id": published.grant_id}
        return found, {**facts, "rows": len(rows.rows)}


def _source(passage: Passage) -> Source:
    return Source(document=passage.document, chunk=passage.chunk, score=passage.score, why=passage.why)


def _short(part: str) -> str:
    return part if len(part) <= PART_LENGTH else f"{part[:PART_LENGTH]}..."


def _nothing_found(question: str, role: str) -> str:
    words = [term.word[:WORD_LENGTH] for term in terms(question)]
    if not words:
        return "The question has no word that could be searched for. Name what you want to know about."
    named = ", ".join(f"'{word}'" for word in words[:WORDS_NAMED]) + (" and more" if words[WORDS_NAMED:] else "")
    return (
        f"The documents that {role} may read do not answer this; they were searched for {named}. "
        "Ask with the business's own words, or ask a knowledge curator to add a document about it."
    )


def _none_published(role: str) -> str:
    return (
        f"No governed result answers this yet, and {role} asked for a published one. "
        "A data engineer can run the same question under governance; once it is approved and done, ask again."
    )
