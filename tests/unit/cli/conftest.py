from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from apps.cli.main import app
from bus.client import TailraceClient
from bus.keys import create_keys
from bus.memory import MemoryBus, MemoryLog
from bus.tail import TailFeed
from bus.trust import TrustEverybody
from config.settings import Settings
from jobs import logging
from jobs.agents import AGENTS
from jobs.bootstrap import System
from schemas.envelope import Message
from schemas.payloads import Ask, Decide
from schemas.tables import TABLES
from tests.fakes import FakeCatalog, FakeEngine, FakeIndex, FakeSqlWriter, FixedRoles, eventually, sample_policy
from tests.hosting import hosted
from workers.adapters.rules.intents import RuleIntents
from workers.code.agent import CodeAgent
from workers.execution.agent import ExecutionAgent
from workers.governance.agent import GovernanceAgent
from workers.governance.approvals import approvals
from workers.governance.delegations import Delegations
from workers.orchestrator.agent import OrchestratorAgent
from workers.orchestrator.plans import Plans
from workers.ports import Passage
from workers.rag.agent import RAGAgent
from workers.runtime.base import Worker
from workers.runtime.clock import SystemClock
from workers.runtime.host import Host

EXECUTE = "Execute SQL to find the top customers and save it to table best"


@dataclass(frozen=True)
class Said:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Said]


@pytest.fixture(autouse=True)
def quiet_logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A logger keeps the stream it was made with, and the runner's is closed after each command."""
    monkeypatch.setattr(logging, "configure", lambda *_, **__: None)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    yield
    structlog.reset_defaults()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "120")

    def command(*words: str, stdin: str | None = None) -> Said:
        done = CliRunner().invoke(app, list(words), input=stdin)
        return Said(done.exit_code, done.stdout, done.stderr)

    return command


# --- a home with keys and tables, and nothing else -------------------------------------------------------------------


def make_home(root: Path) -> System:
    system = System(Settings.load(home=str(root)))
    holders: dict[str, list[str]] = {}
    for agent in AGENTS:
        holders.setdefault(f"host-{agent.host}", []).append(agent.name)
    for user in ("ada", "ana", "eli"):
        holders[f"user-{user}"] = [f"user:{user}"]
    create_keys(system.home.keys, holders, 0)
    for name in TABLES:
        system.log(name).create()
    return system


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    system = make_home(tmp_path / "home")
    monkeypatch.setenv("TAILRACE_HOME", str(system.home.root))
    return system


# --- the same, with agents that live in a thread ---------------------------------------------------------------------


def workers(lent: Delegations | None = None) -> list[Worker]:
    roles = FixedRoles()
    plans = Plans.parse(System(Settings.load()).plans.model_dump())
    passage = Passage("sales", 1, "Sales", "Sales are what was sold.", 2.5, "matches sales")
    return [
        OrchestratorAgent(plans, RuleIntents(lambda question: "customers" in question), roles),
        RAGAgent(FakeIndex([passage]), FakeCatalog()),
        CodeAgent(FakeSqlWriter(), {"tpch.customer": ["c_name"]}, FixedRoles()),
        GovernanceAgent(roles, sample_policy(), "dev", lent),
        ExecutionAgent(FakeEngine(), roles, "dev"),
    ]


@pytest.fixture(scope="module")
def live_home(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[System]:
    """With the agents above, or with those of the module's own `live_workers`."""
    system = make_home(tmp_path_factory.mktemp("live") / "home")
    made = getattr(request.module, "live_workers", lambda: workers(system.delegations))()
    with hosted(system, *made):
        yield system


@pytest.fixture
def live(live_home: System, monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setenv("TAILRACE_HOME", str(live_home.home.root))
    return live_home


# --- a conversation as it was recorded -------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def recorded() -> list[Message]:
    """A whole execution, approved by ada, on the memory bus; receipts included."""
    return asyncio.run(_converse())


async def _converse() -> list[Message]:
    memory = MemoryLog()
    bus = MemoryBus(memory)
    host = Host(workers(), bus, TailFeed(bus), TrustEverybody(), SystemClock(), [])
    await host.start()
    client = TailraceClient(user="eli", bus=MemoryBus(memory))
    asked = client.send("OrchestratorAgent", Ask(question=EXECUTE))
    (approval,) = (await eventually(lambda: approvals(client.conversation(asked.correlation_id)))).values()
    ada = TailraceClient(user="ada", bus=MemoryBus(memory))
    ada.send(
        "GovernanceAgent",
        Decide(approval_id=approval.id, decision="approve", digest=approval.requested.digest),
        correlation_id=asked.correlation_id,
        causation_id=approval.message.message_id,
    )
    await asyncio.to_thread(client.wait, asked, 10)
    await host.stop()
    return [row for commit in memory.commits for row in commit if row.correlation_id == asked.correlation_id]
