"""Between a person, the orchestrator and the agents it delegates to."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from schemas.payloads.base import Payload


class Ask(Payload):
    """A person's question, in plain language."""

    question: str = Field(max_length=1 << 20)


class Source(Payload):
    """A passage an answer rests on: `score` in the index's unit, `why` names what matched."""

    document: str
    chunk: int
    score: float
    why: str


class Code(Payload):
    language: str
    text: str


class Result(Payload):
    """Rows of a result. `table` is where it is kept; `table_version` is the version to read it back at.

    `reference`: a file of the lakehouse that holds all of it, when it is too large for a message.
    """

    columns: list[str]
    rows: list[list[Any]]
    truncated: bool = False
    table: str | None = None
    table_version: int | None = None
    reference: str | None = None


class Refusal(Payload):
    rule: str
    reason: str


class Answered(Payload):
    """The end of a conversation, addressed to the person who asked."""

    status: Literal["answered", "refused", "failed"]
    answer: str
    code: Code | None = None
    result: Result | None = None
    sources: list[Source] = []
    refusal: Refusal | None = None


# --- what an orchestrator delegates ----------------------------------------------------------------------------------


class RetrieveKnowledge(Payload):
    question: str
    role: str


class KnowledgeRetrieved(Payload):
    answer: str
    sources: list[Source]


class FindResult(Payload):
    """Look for a published governed result that answers the question."""

    question: str
    role: str


class ResultFound(Payload):
    question: str
    result: Result
    published_at: str
    approved_by: str
    grant_id: str


class GenerateCode(Payload):
    question: str


class CodeGenerated(Payload):
    """Checked code, not run. `tables` are the tables it reads, as schema.table."""

    question: str
    code: Code
    explanation: str
    tables: list[str]
    columns: list[str]


class Failed(Payload):
    """An agent could not do what it was asked, for a reason a person can act on."""

    rule: str
    reason: str


class Refused(Payload):
    """An agent must not do what it was asked."""

    rule: str
    reason: str
