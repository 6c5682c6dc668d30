"""A home on disk with a whole history in it: questions, an execution that was approved, one refused, audit facts of all."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bus.keys import create_keys
from config.settings import Settings
from jobs.agents import AGENTS, UPKEEP, Agent
from jobs.bootstrap import System
from schemas.payloads import Ask, Decide
from schemas.tables import TABLES
from tests.fakes import FakeCatalog, FakeEngine, FakeIndex, FakeSqlWriter, FixedRoles, eventually, sample_policy
from workers.adapters.rules.intents import RuleIntents
from workers.code.agent import CodeAgent
from workers.execution.agent import ExecutionAgent
from workers.governance.agent import GovernanceAgent
from workers.governance.approvals import approvals
from workers.orchestrator.agent import OrchestratorAgent
from workers.orchestrator.plans import Plans
from workers.ports import Passage
from workers.rag.agent import RAGAgent
from workers.runtime.base import Worker

EXECUTE = "Execute SQL to find the top customers and save it to table best"
USERS = ("ada", "ana", "eli")


def make_home(root: Path) -> System:
    """Keys and tables, and nothing else."""
    system = open_home(root)
    holders: dict[str, list[str]] = {"upkeep": [UPKEEP]}
    for agent in AGENTS:
        holders.setdefault(f"host-{agent.host}", []).append(agent.name)
    for user in USERS:
        holders[f"user-{user}"] = [f"user:{user}"]
    create_keys(system.home.keys, holders, 0)
    for name in TABLES:
        system.log(name).create()
    return system


def open_home(root: Path) -> System:
    return System(Settings.load(home=str(root)))


def workers(system: System) -> list[Worker]:
    roles = FixedRoles()
    passage = Passage("sales", 1, "Sales", "Sales are what was sold.", 2.5, "matches sales")
    return [
        OrchestratorAgent(
            Plans.parse(system.plans.model_dump()), RuleIntents(lambda question: "customers" in question), roles
        ),
        RAGAgent(FakeIndex([passage]), FakeCatalog()),
        CodeAgent(FakeSqlWriter(), {"tpch.customer": ["c_name"]}, FixedRoles()),
        GovernanceAgent(roles, sample_policy(), system.settings.env),
        ExecutionAgent(FakeEngine(), environment=system.settings.env),
    ]


async def record(system: System) -> None:
    """eli executes with ada's yes, then without it; ana asks a question, and for what she may not."""
    made = {worker.name: worker for worker in workers(system)}
    agents = [Agent(a.name, a.short, "main", lambda _, name=a.name: made[name], "tail") for a in AGENTS]
    host = await asyncio.to_thread(system.host, agents, "tail")
    await host.start()
    with system.client("eli") as eli, system.client("ana") as ana, system.client("ada") as ada:
        for decision in ("approve", "reject"):
            asked = eli.send("OrchestratorAgent", Ask(question=EXECUTE))
            (approval,) = (await eventually(lambda c=asked: approvals(eli.conversation(c.correlation_id)))).values()
            ada.send(
                "GovernanceAgent",
                Decide(approval_id=approval.id, decision=decision, digest=approval.requested.digest, reason="so"),
                correlation_id=asked.correlation_id,
                causation_id=approval.message.message_id,
            )
            await asyncio.to_thread(eli.wait, asked, 10)
        for question in ("how are sales defined?", EXECUTE):
            await asyncio.to_thread(ana.wait, ana.send("OrchestratorAgent", Ask(question=question)), 10)
    await host.stop()
