"""What agents ask of the outside world: one protocol a task, one frozen value an answer.

Agents import this module and nothing below `workers.adapters`; `jobs/bootstrap.py` decides who answers. An answer that
cannot be given is an exception of this module, never an empty value: silence must not look like a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from schemas.payloads import EffectPreview


class PortError(Exception):
    """Root of everything a port may raise; the message is meant for the person who asked."""


class CouldNotMap(PortError):
    """A question holds words the semantic layer has no meaning for.

    Remedy: say it with the measures and dimensions the layer knows, or add the word to `config/semantic`.
    """

    def __init__(self, words: Sequence[str], hint: str = "") -> None:
        self.words = tuple(words)
        self.hint = hint
        named = ", ".join(f"'{word}'" for word in words)
        super().__init__(f"I could not map {named}." + (f" {hint}" if hint else ""))


class StatementRefused(PortError):
    """A statement is outside what may run; `rule` names the rule that refused it."""

    def __init__(self, rule: str, reason: str) -> None:
        self.rule = rule
        self.reason = reason
        super().__init__(f"{rule}: {reason}")


class StatementFailed(PortError):
    """The engine accepted a statement and could not analyse or run it (a missing table, a type error)."""


class OutcomeUnknown(PortError):
    """An effect was started and nobody knows whether it happened. It must not be started again by itself."""


@dataclass(frozen=True)
class GeneratedSql:
    """One SELECT in Spark's dialect. `tables` are `schema.table`; `explanation` is for a person."""

    sql: str
    explanation: str
    tables: tuple[str, ...]
    columns: tuple[str, ...]


class SqlWriter(Protocol):
    def write(self, question: str) -> GeneratedSql:
        """Turn a question into SQL. Raises CouldNotMap."""
        ...


@dataclass(frozen=True)
class Passage:
    """A piece of knowledge that may answer a question. `score` is in the index's own unit; `why` names what matched."""

    document: str
    chunk: int
    title: str
    text: str
    score: float
    why: str


class KnowledgeIndex(Protocol):
    def search(self, question: str, role: str, limit: int) -> Sequence[Passage]:
        """Best passages first, among those `role` may read; the filter runs before the ranking."""
        ...


class KnowledgeLibrary(Protocol):
    """Where the documents are kept."""

    def check(self, name: str, text: str) -> str:
        """The sha256 of a document that can be kept. Raises PortError naming the line that is wrong."""
        ...

    def add(self, name: str, text: str) -> bool:
        """Keep it; False when this very text was kept already. Raises PortError."""
        ...


@dataclass(frozen=True)
class PublishedResult:
    """A result table that came out of a granted execution; `table_version` is the Delta version that execution wrote."""

    question: str
    sql: str
    table: str
    table_version: int
    executed_at: str
    approved_by: str
    grant_id: str


@dataclass(frozen=True)
class Rows:
    """A bounded result. `rows` hold JSON-ready values (decimals as strings); `truncated` says that more exist."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool


class ResultCatalog(Protocol):
    """Published results, found by what they mean and read at the very version that was published."""

    def find(self, question: str) -> PublishedResult | None: ...

    def read(self, result: PublishedResult, limit: int) -> Rows: ...


@dataclass(frozen=True)
class Statement:
    """Code that is to run: `language` is sql, python, pyspark or restore; tables are `schema.table`.

    `target`: the one table that may change. `reads`: the tables that Python or PySpark may read; SQL names its own.
    """

    language: str
    text: str
    target: str | None = None
    reads: tuple[str, ...] = ()


@dataclass(frozen=True)
class DryRun:
    """What the real engine said without running it, and what it saw.

    `statement_class`: read, create, write, delete, drop, alter, grant or other. `digest` is the sha256 over code, target,
    table versions, output columns and normalised plan: the same request on the same tables gives the same digest.
    `table_versions` maps `schema.table` to the Delta version that was looked at. `writes`: the table that would change, and
    `effect` how, as tried on a snapshot. `estimated_rows` and `estimated_bytes`: of what is read; None when unknown.
    `output`: what code printed when it was tried, cut where it was long.
    """

    statement_class: str
    columns: tuple[str, ...]
    table_versions: Mapping[str, int]
    plan: str
    digest: str
    elapsed_ms: float
    writes: str | None = None
    estimated_rows: int | None = None
    estimated_bytes: int | None = None
    effect: EffectPreview | None = None
    output: str = ""


@dataclass(frozen=True)
class Executed:
    """What a run left behind. `table_version` is the Delta version it wrote when there was a target, else None.

    `table_version_before`: what was there before; None when there was no table. `reference`: a file with the whole result.
    `output`: what code printed, cut where it was long.
    """

    result: Rows
    row_count: int
    table: str | None
    table_version: int | None
    elapsed_ms: float
    table_version_before: int | None = None
    reference: str | None = None
    output: str = ""


@dataclass(frozen=True)
class Outcome:
    """A grant wrote `table`. `table_version` is None when the log entry has been cleaned up and only its mark is left."""

    table: str
    table_version: int | None


class Engine(Protocol):
    """What runs statements: it can only read the declared tables and only write the declared target."""

    async def warm(self) -> None:
        """Start what has to be started, so that the first request does not wait for it."""
        ...

    async def dry_run(self, statement: Statement) -> DryRun:
        """Parse, classify, EXPLAIN, try on a snapshot. Raises StatementRefused or StatementFailed; changes nothing."""
        ...

    async def run(self, statement: Statement, grant_id: str, row_limit: int, *, digest: str | None = None) -> Executed:
        """Run once, with `grant_id` in the target's commit.

        With `digest`, what is not that very dry run is refused at the moment it would run, with `grant.dry_run_changed`.
        Raises StatementRefused, StatementFailed, or OutcomeUnknown when it may have happened.
        """
        ...

    async def outcome_of(self, grant_id: str, target: str, since: int | None = None) -> Outcome | None:
        """What a grant wrote, by the target's own log; None proves that it wrote nothing, once nothing runs any more.

        `since`: UTC microseconds; it cannot have begun earlier, which matters where the past is only found by its time.
        Raises OutcomeUnknown when the target cannot tell: what was begun may still be under way elsewhere.
        """
        ...

    async def cancel(self, grant_id: str) -> bool:
        """End what runs under this grant; its `run` then raises. False when nothing does."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True)
class Intent:
    """What a person wants. `plan` names a plan of `config/mas_config.yaml`; `subject` is the question without command words."""

    plan: str
    subject: str
    target: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


class IntentDetector(Protocol):
    def detect(self, question: str) -> Intent: ...


class UnknownUser(PortError):
    """Nobody has given this user a role."""


class Roles(Protocol):
    def role_of(self, user: str) -> str:
        """The user's role. Raises UnknownUser."""
        ...

    def allows(self, user_or_role: str, permission: str) -> bool:
        """Whether the user's role (or the role itself) has the permission; False for unknown ones."""
        ...

    def is_bot(self, user: str) -> bool:
        """Whether the user's role is that of a program, which may propose and never decides; False for unknown ones."""
        ...


class MemoryRefused(PortError):
    """The scope names roles that may read or write it, and the principal has none of them."""


class Memory(Protocol):
    """What agents share beside a conversation: JSON values by scope and key, with the rights of the principal.

    A value is kept for 24 hours unless said otherwise. What a handler writes again when it is run again counts once.
    """

    async def get(self, scope: str, key: str) -> Any:
        """The newest value, or None. Raises MemoryRefused."""
        ...

    async def put(self, scope: str, key: str, value: Any, *, ttl_s: float | None = None) -> None:
        """Keep a value. Raises MemoryRefused, or ValueError for what is no JSON."""
        ...

    async def delete(self, scope: str, key: str) -> None:
        """Raises MemoryRefused."""
        ...

    async def keys(self, scope: str) -> Sequence[str]:
        """Keys that hold a value now, sorted. Raises MemoryRefused."""
        ...


class NoMemory:
    """Where nothing is shared."""

    async def get(self, scope: str, key: str) -> Any:
        raise PortError("this host was started without shared memory")

    async def put(self, scope: str, key: str, value: Any, *, ttl_s: float | None = None) -> None:
        raise PortError("this host was started without shared memory")

    async def delete(self, scope: str, key: str) -> None:
        raise PortError("this host was started without shared memory")

    async def keys(self, scope: str) -> Sequence[str]:
        raise PortError("this host was started without shared memory")


NO_MEMORY: Memory = NoMemory()
