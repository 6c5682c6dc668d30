"""A home with recorded conversations: the agents as `jobs/agents.py` builds them, and an engine that runs nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from bus.client import TailraceClient
from bus.keys import create_keys
from config import files
from config.settings import Settings
from jobs.agents import AGENTS, UPKEEP
from jobs.bootstrap import System
from schemas.payloads import Ask, Decide
from schemas.tables import KNOWLEDGE_CHUNKS, KNOWLEDGE_DOCUMENTS, TABLES
from tests.fakes import FakeEngine, eventually
from workers.adapters.knowledge.store import KnowledgeStore
from workers.governance.approvals import approvals
from workers.ports import Engine

DATA = "top 10 customers by sales"
EXECUTE = f"Execute SQL to find the {DATA} and save it to table best"
#: Columns of the sample, as far as the questions here need them.
TABLES_OF_SAMPLE = {
    "customer": ["c_custkey", "c_name", "c_nationkey", "c_mktsegment", "c_acctbal"],
    "orders": ["o_orderkey", "o_custkey", "o_orderdate", "o_orderstatus", "o_totalprice", "o_orderpriority"],
    "lineitem": [
        *("l_orderkey", "l_partkey", "l_suppkey", "l_quantity", "l_extendedprice", "l_discount", "l_tax"),
        *("l_returnflag", "l_shipdate", "l_commitdate", "l_receiptdate", "l_linestatus", "l_shipmode"),
    ],
}


class RecordedSystem(System):
    """Everything real but the engine."""

    engine = FakeEngine()

    def execution_engine(self) -> Engine:
        return self.engine


def make_home(root: Path) -> RecordedSystem:
    system = RecordedSystem(Settings.load(home=str(root)))
    holders: dict[str, list[str]] = {"upkeep": [UPKEEP]}
    for agent in AGENTS:
        holders.setdefault(f"host-{agent.host}", []).append(agent.name)
    for user in ("ada", "ana", "eli"):
        holders[f"user-{user}"] = [f"user:{user}"]
    create_keys(system.home.keys, holders, 0)
    for name in TABLES:
        system.log(name).create()
    for table, columns in TABLES_OF_SAMPLE.items():
        rows = pa.table({name: pa.array([], pa.string()) for name in columns})
        write_deltalake(str(system.home.warehouse / "tpch" / table), rows)
    rows = pa.table({"c_name": ["Customer#1"]})
    write_deltalake(str(system.home.warehouse / "results" / "best"), rows)
    store = KnowledgeStore(system.log(KNOWLEDGE_DOCUMENTS.name), system.log(KNOWLEDGE_CHUNKS.name))
    store.ingest([(name.removesuffix(".md"), files.text(f"knowledge/{name}")) for name in ("sales.md", "returns.md")])
    return system


async def converse(system: RecordedSystem) -> dict[str, str]:
    """What people ask of it; returns the conversations by what they are about."""
    host = await asyncio.to_thread(system.host, AGENTS, "tail")
    await host.start()
    said: dict[str, str] = {}
    try:
        with system.client("eli") as eli, system.client("ana") as ana, system.client("ada") as ada:
            said["not published"] = await _ask(ana, DATA)
            said["executed"] = await _execute(eli, ada)
            executions = system.log("executions")
            await eventually(lambda: "done" in executions.scan(["step"])[0].column("step").to_pylist())
            said["published"] = await _ask(ana, DATA)
            said["knowledge"] = await _ask(ana, "How are sales defined, and which discounts count?")
            said["generated"] = await _ask(eli, f"Generate SQL for the {DATA}")
            said["refused"] = await _ask(ana, EXECUTE)
            said["not mapped"] = await _ask(eli, "Generate SQL for the unicorns by shoe size")
    finally:
        await host.stop()
    return said


async def _ask(client: TailraceClient, question: str) -> str:
    asked = client.send("OrchestratorAgent", Ask(question=question))
    await asyncio.to_thread(client.wait, asked, 20)
    return asked.correlation_id


async def _execute(eli: TailraceClient, ada: TailraceClient) -> str:
    asked = eli.send("OrchestratorAgent", Ask(question=EXECUTE))
    (approval,) = (await eventually(lambda: approvals(eli.conversation(asked.correlation_id)))).values()
    ada.send(
        "GovernanceAgent",
        Decide(approval_id=approval.id, decision="approve", digest=approval.requested.digest),
        correlation_id=asked.correlation_id,
        causation_id=approval.message.message_id,
    )
    await asyncio.to_thread(eli.wait, asked, 20)
    return asked.correlation_id


def versions(system: System) -> dict[str, int]:
    """Version of every table of the home but `replays`, read by deltalake."""
    logs = [*system.home.tables.glob("*/_delta_log"), *system.home.warehouse.glob("*/*/_delta_log")]
    return {log.parent.name: DeltaTable(str(log.parent)).version() for log in logs if log.parent.name != "replays"}


def replays(system: System) -> list[dict[str, Any]]:
    rows = DeltaTable(str(system.home.table("replays"))).to_pyarrow_table().to_pylist()
    return sorted(rows, key=lambda row: (row["log_version"], row["seq"]))
