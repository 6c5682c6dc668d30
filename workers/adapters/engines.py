"""Which engine runs which language: one `Engine` for agents, made of one for each language."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from workers.ports import DryRun, Engine, Executed, Outcome, Statement, StatementRefused


class SqlSandbox(Protocol):
    """What `SparkSandbox` is to others: SQL as text."""

    async def warm(self) -> None: ...

    async def dry_run(self, sql: str, target: str | None) -> DryRun: ...

    async def run(
        self, sql: str, target: str | None, grant_id: str, row_limit: int, digest: str | None = None
    ) -> Executed: ...

    def outcome_of(self, grant_id: str, target: str) -> Outcome | None: ...

    async def cancel(self, grant_id: str) -> bool: ...

    async def close(self) -> None: ...


class SqlEngine:
    """SQL as an engine among others."""

    def __init__(self, sandbox: SqlSandbox) -> None:
        self._sandbox = sandbox

    async def warm(self) -> None:
        await self._sandbox.warm()

    async def dry_run(self, statement: Statement) -> DryRun:
        return await self._sandbox.dry_run(statement.text, statement.target)

    async def run(self, statement: Statement, grant_id: str, row_limit: int, *, digest: str | None = None) -> Executed:
        return await self._sandbox.run(statement.text, statement.target, grant_id, row_limit, digest)

    async def outcome_of(self, grant_id: str, target: str, since: int | None = None) -> Outcome | None:
        return await asyncio.to_thread(self._sandbox.outcome_of, grant_id, target)

    async def cancel(self, grant_id: str) -> bool:
        return await self._sandbox.cancel(grant_id)

    async def close(self) -> None:
        await self._sandbox.close()


class Engines:
    """`by_language`: the engine of each language. What was written is asked of the first, for all write the same tables."""

    def __init__(self, by_language: Mapping[str, Engine]) -> None:
        self._by_language = dict(by_language)
        self._engines = list(dict.fromkeys(self._by_language.values()))

    async def warm(self) -> None:
        """Only the first: the others start when somebody needs them."""
        await self._engines[0].warm()

    async def dry_run(self, statement: Statement) -> DryRun:
        return await self._engine(statement).dry_run(statement)

    async def run(self, statement: Statement, grant_id: str, row_limit: int, *, digest: str | None = None) -> Executed:
        return await self._engine(statement).run(statement, grant_id, row_limit, digest=digest)

    async def outcome_of(self, grant_id: str, target: str, since: int | None = None) -> Outcome | None:
        return await self._engines[0].outcome_of(grant_id, target, since)

    async def cancel(self, grant_id: str) -> bool:
        return any([await engine.cancel(grant_id) for engine in self._engines])

    async def close(self) -> None:
        for engine in self._engines:
            await engine.close()

    def _engine(self, statement: Statement) -> Engine:
        """Raises StatementRefused."""
        engine = self._by_language.get(statement.language)
        if engine is None:
            known = ", ".join(sorted(self._by_language))
            raise StatementRefused("execution.language", f"{statement.language} is not run here; {known} is")
        return engine
