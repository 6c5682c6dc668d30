"""Hand-written stand-ins for what agents ask of the outside; failure is an argument."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.policy import Policy
from workers.governance.policy import PolicyEngine
from workers.ports import (
    CouldNotMap,
    DryRun,
    Executed,
    GeneratedSql,
    Outcome,
    OutcomeUnknown,
    Passage,
    PublishedResult,
    Rows,
    Statement,
    StatementRefused,
    UnknownUser,
)

PERMISSIONS = {
    "admin": {"*"},
    "data_engineer": {"knowledge.read", "rag.query", "results.read", "code.generate", "sql.execute"},
    "data_analyst": {"knowledge.read", "rag.query", "results.read"},
    "knowledge_curator": {"knowledge.read", "rag.query", "knowledge.approve", "knowledge.manage"},
    "robot": {"code.generate", "sql.execute", "execution.approve", "knowledge.approve", "knowledge.manage"},
}
USERS = {
    "ana": "data_analyst",
    "eli": "data_engineer",
    "kim": "knowledge_curator",
    "ada": "admin",
    "ned": "data_engineer",
    "bea": "admin",
    "rob": "robot",
}


class FixedRoles:
    def role_of(self, user: str) -> str:
        try:
            return USERS[user]
        except KeyError:
            raise UnknownUser(f"nobody has given {user} a role") from None

    def allows(self, user_or_role: str, permission: str) -> bool:
        granted = PERMISSIONS.get(USERS.get(user_or_role, user_or_role), set())
        return "*" in granted or permission in granted

    def is_bot(self, user: str) -> bool:
        return USERS.get(user) == "robot"


def sample_policy(**changed: Any) -> PolicyEngine:
    """Reads, and writes to new tables of results, with another person's yes. `changed`: fields of its approval."""
    approval = {"needs": [{"group": "admin", "count": 1}]} | changed
    return policy_of(
        {
            "id": "execution.four_eyes",
            "effect": "approve",
            "reason": "another person has to approve what is run",
            "when": {"subject": ["execution"], "languages": ["sql"], "classes": ["read", "create"]},
            "approval": approval,
        }
    )


def policy_of(*rules: dict[str, Any], **groups: list[str]) -> PolicyEngine:
    return PolicyEngine(Policy.model_validate({"version": 1, "groups": groups, "rules": rules}))


class ManualClock:
    """Time that moves when a test says so, or when somebody sleeps."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._sleepers: list[tuple[datetime, asyncio.Event]] = []

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        waked = asyncio.Event()
        self._sleepers.append((self._now + timedelta(seconds=seconds), waked))
        await waked.wait()

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        for when, waked in self._sleepers:
            if when <= self._now:
                waked.set()


class FakeSqlWriter:
    def write(self, question: str) -> GeneratedSql:
        if "unicorn" in question:
            raise CouldNotMap(["unicorn"], "I know sales.")
        return GeneratedSql("SELECT c_name FROM tpch.customer", "Names.", ("tpch.customer",), ("c_name",))


class FakeEngine:
    """Runs nothing; remembers what it was asked to run. `fails` is raised by `run`; `moved` changes the next digest.

    `silent`: targets do not tell what was written.
    """

    def __init__(self, fails: Exception | None = None) -> None:
        self.fails = fails
        self.moved = self.silent = False
        self.ran: list[tuple[str, str | None, str]] = []
        #: What each grant left in its target, as the target itself would say.
        self.wrote: dict[str, Outcome] = {}
        self.closed = False

    async def warm(self) -> None:
        return

    async def dry_run(self, statement: Statement) -> DryRun:
        versions = {"tpch.customer": 1 if self.moved else 0}
        digest = hashlib.sha256(json.dumps([statement.text, statement.target, versions]).encode()).hexdigest()
        kind = "read" if statement.target is None else "create"
        return DryRun(kind, ("c_name",), versions, "Scan tpch.customer", digest, 1.0, writes=statement.target)

    async def run(self, statement: Statement, grant_id: str, row_limit: int, *, digest: str | None = None) -> Executed:
        now = await FakeEngine.dry_run(self, statement)
        if digest is not None and digest != now.digest:
            raise StatementRefused("grant.dry_run_changed", "these tables have changed: tpch.customer")
        target = statement.target
        self.ran.append((statement.text, target, grant_id))
        if self.fails is not None:
            raise self.fails
        return Executed(Rows(("c_name",), (("Customer#1",),), False), 1, target, 0 if target else None, 1.0)

    async def outcome_of(self, grant_id: str, target: str, since: int | None = None) -> Outcome | None:
        if self.silent:
            raise OutcomeUnknown(f"{target} does not tell")
        return self.wrote.get(grant_id)

    async def cancel(self, grant_id: str) -> bool:
        return False

    async def close(self) -> None:
        self.closed = True


class FakeIndex:
    def __init__(self, passages: Sequence[Passage] = ()) -> None:
        self.passages = passages

    def search(self, question: str, role: str, limit: int) -> Sequence[Passage]:
        return list(self.passages)[:limit]


class FakeCatalog:
    def __init__(self, result: PublishedResult | None = None, rows: Rows | None = None) -> None:
        self.result, self.rows = result, rows

    def find(self, question: str) -> PublishedResult | None:
        return self.result

    def read(self, result: PublishedResult, limit: int) -> Rows:
        assert self.rows is not None
        return self.rows


async def eventually(condition: Callable[[], Any], timeout: float = 10.0) -> Any:
    """Wait until `condition()` is true, giving way to everything else; fails after `timeout` seconds."""
    async with asyncio.timeout(timeout):
        while not (found := condition()):
            await asyncio.sleep(0.001)
        return found
