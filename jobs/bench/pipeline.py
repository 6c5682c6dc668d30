"""The engineer's pipeline through five agents in three processes, and what five idle agents cost."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bus.client import TailraceClient
from jobs.bench.table import Measurements
from jobs.bootstrap import System
from jobs.processes import Processes
from schemas.envelope import Message
from schemas.payloads import ApprovalRequested, Ask, Decide

Say = Callable[[str], None]

QUESTION = "Execute SQL to find the top 10 customers by sales and save it to table bench_top_customers"
#: Goals: what the bus may add to the engineer's pipeline, by engine, in milliseconds.
GOALS = {"tail": 400.0, "streaming": 3000.0}


def measure(system: System, say: Say, out: Measurements, rounds: int = 7) -> None:
    """`system`: a home that was initialised."""
    for engine in ("tail", "streaming"):
        say(f"starting five agents on the {engine} engine")
        with Processes(system) as processes:
            processes.start(processes.missing_hosts(), engine)
            processes.wait_ready(180.0)
            with system.client("eli") as eli, system.client("ada") as ada:
                say(f"pipeline, {engine}")
                for _ in range(2):
                    one_request(eli, ada)
                spent = [one_request(eli, ada) for _ in range(rounds)]
        median = out.times(f"pipeline without approval wait and Spark, {engine}", [one.bus_ms for one in spent])
        out.times(f"  Spark's own time in it ({engine} run)", [one.spark_ms for one in spent])
        out.times(f"  governance in it ({engine} run)", [one.governance_ms for one in spent])
        added = statistics.median(one.governance_share for one in spent)
        out.figure(
            f"governance adds to the pipeline without approval wait and dry run, {engine}",
            f"{100 * added:.1f} %",
            "at most 20 %",
            added <= 0.2,
        )
        goal = GOALS[engine]
        out.figure(f"pipeline p50, {engine}", f"{median:.0f} ms", f"under {goal:.0f} ms", median < goal)


@dataclass(frozen=True)
class Spent:
    """Milliseconds of one request, approved at once, without the wait for the approval.

    `bus_ms`: the bus and the agents. `spark_ms`: Spark. `governance_ms`: from asking governance for the execution until
    the executor has its order, without the wait and without the dry run. `rest_ms`: all else, the run included.
    """

    bus_ms: float
    spark_ms: float
    governance_ms: float
    rest_ms: float

    @property
    def governance_share(self) -> float:
        """What governance adds to the rest."""
        return self.governance_ms / self.rest_ms


def one_request(eli: TailraceClient, ada: TailraceClient, question: str = QUESTION) -> Spent:
    with eli.listen() as arrivals:
        asked = eli.send("OrchestratorAgent", Ask(question=question))
        seen: list[Message] = [asked]
        while not any(m.kind == "Answered" for m in seen):
            fresh = arrivals.next_of(asked.correlation_id, 120.0)
            if not fresh:
                raise RuntimeError(f"no answer within 120 s to: {question}")
            seen += fresh
            for row in fresh:
                if row.kind == ApprovalRequested.kind() and row.from_agent == "GovernanceAgent":
                    _approve(ada, row)
    return _times(seen)


def _approve(ada: TailraceClient, row: Message) -> None:
    wanted = ApprovalRequested.model_validate_json(row.content)
    decision = Decide(approval_id=wanted.approval_id, decision="approve", digest=wanted.digest)
    ada.send("GovernanceAgent", decision, correlation_id=row.correlation_id, causation_id=row.message_id)


def _times(seen: Sequence[Message]) -> Spent:
    at = {m.kind: m.timestamp for m in seen if m.message_type != "receipt"}
    if "CodeRun" not in at:
        raise RuntimeError(f"the pipeline ended otherwise: {next(m.content for m in seen if m.kind == 'Answered')}")
    total = (at["Answered"] - at["Ask"]) / 1000
    waited = (at["Decide"] - at["ApprovalRequested"]) / 1000
    facts = [json.loads(m.content) for m in seen if m.kind == "AuditRecorded"]
    spark = float(sum(fact["details"].get("engine_ms", 0) for fact in facts))
    dry_run = (at["CodeDryRun"] - at["DryRunCode"]) / 1000
    governance = (at["RunCode"] - at["RequestExecution"]) / 1000 - waited - dry_run
    return Spent(total - waited - spark, spark, governance, total - waited - dry_run - governance)


def measure_idle(system: System, say: Say, out: Measurements, seconds: float = 10.0) -> None:
    """Five agents on the tail engine with nothing to do; execution has not started its Spark."""
    say("five idle agents on the tail engine")
    with Processes(system) as processes:
        children = processes.start(processes.missing_hosts(), "tail", warm=False)
        processes.wait_ready(60.0)
        with system.client("ana") as ana:
            ana.request("OrchestratorAgent", Ask(question="How are sales defined?"), timeout=60.0)
            pids = [child.process.pid for child in children]
            time.sleep(2.0)
            before = sum(_cpu_seconds(pid) for pid in pids)
            time.sleep(seconds)
            share = (sum(_cpu_seconds(pid) for pid in pids) - before) / seconds * 100
            memory = sum(_memory_mb(pid) for pid in pids)
            started = time.perf_counter()
            ana.request("OrchestratorAgent", Ask(question="How are sales defined?"), timeout=60.0)
            first = (time.perf_counter() - started) * 1000
    out.figure("five idle agents, memory (PSS)", f"{memory:.0f} MB", "under 400 MB", memory < 400)
    out.figure("five idle agents, processor", f"{share:.1f} % of a core", "under 3 %", share < 3)
    out.figure("first answer after idle (three hops)", f"{first:.0f} ms")


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _memory_mb(pid: int) -> float:
    """Proportional set size: what the process adds to the machine's use, shared pages divided by their users."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"the kernel does not report memory for process {pid}")
