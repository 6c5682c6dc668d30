"""How long a verification takes by the size of the log, and what it holds in memory: `python -m tests.bench.audit`."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from bus.audit import AuditChain
from bus.fold import valid_rows
from bus.keys import Signer, create_keys
from bus.log import rows as codec
from bus.log.seal import SigningSeal
from bus.projections.tables import projections
from config.settings import Settings
from jobs.agents import UPKEEP
from jobs.audit import verifier, verify
from jobs.bootstrap import System
from schemas.envelope import EVERYONE, Message
from schemas.payloads import Ask, AuditRecorded, KnowledgeRetrieved, Receipt
from schemas.tables import AGENT_MESSAGES, TABLES

NOW = 1_767_225_600_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[25_000, 50_000, 100_000, 200_000])
    parser.add_argument("--commit", type=int, default=40, help="rows of a commit; 4 is one handling a commit")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for rows in words.rows:
            system = home(Path(scratch) / str(rows))
            written = fill(system, rows, words.commit)
            for name in ("ours", "single file"):
                # Each in a process of its own, so that the peak of its memory is its own.
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                    found = pool.submit(measure, str(system.home.root), name).result()
                found |= {"rows": written, "verifier": name, "rows_per_s": round(written / found["seconds"])}
                sys.stdout.write(json.dumps(found) + "\n")
                sys.stdout.flush()


def measure(home: str, name: str) -> dict[str, Any]:
    system = System(Settings.load(home=home))
    began = time.monotonic()
    if name == "ours":
        report: Any = verify(system)
        problems = report.found.total()
    else:
        report, _ = verifier.verify(system.home.root, None, [])
        problems = report.found.total()
    seconds = time.monotonic() - began
    user = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    checked = {what: report.checked[what] for what in ("facts", "commits", "projected rows")}
    return {
        "seconds": round(seconds, 2),
        "cpu_s": round(user, 2),
        "problems": problems,
        "peak_mb": peak // 1024,
        **checked,
    }


def home(root: Path) -> System:
    system = System(Settings.load(home=str(root)))
    create_keys(
        system.home.keys, {"upkeep": [UPKEEP], "host": ["OrchestratorAgent", "RAGAgent"], "ana": ["user:ana"]}, 0
    )
    for name in TABLES:
        system.log(name).create()
    return system


def fill(system: System, rows: int, commit: int) -> int:
    """Questions of people, and for each what an agent makes of it: a receipt, an audit fact, an answer."""
    log = system.log(AGENT_MESSAGES.name)
    table_id = log.check()
    signer = Signer.load(system.home.keys, ["OrchestratorAgent", "RAGAgent", "user:ana"], table_id, system.settings.env)
    seal = SigningSeal(signer, AuditChain("host-1"))
    version, batch, written = 0, [], 0
    everything: list[Message] = []
    for handled in handlings(rows // 4):
        batch += handled
        if len(batch) >= commit:
            version += 1
            everything += put(system, log, seal, version, batch)
            written, batch = written + len(batch), []
    valid = valid_rows(everything)
    for projection in projections(system.log):
        projection.position()
        projection.append(valid, version, -1)
    with_upkeep = system.upkeep(AGENT_MESSAGES.name)
    with_upkeep.run(force=True)
    return written


def put(system: System, log: Any, seal: SigningSeal, version: int, batch: Sequence[Message]) -> list[Message]:
    sealed = seal.apply(batch)
    assert log.put_encoded(version, codec.encode(sealed, version, ())).won
    seal.commit()
    return [row.with_fields(log_version=version, seq=seq) for seq, row in enumerate(sealed)]


def handlings(count: int) -> Iterator[list[Message]]:
    answer = KnowledgeRetrieved(answer="Sales are what was sold, " * 8, sources=[]).model_dump_json()
    fact = AuditRecorded(
        action="knowledge.read", decision="done", details={"role": "data_analyst", "tables": ["t"] * 5}
    )
    for number in range(count):
        mine: dict[str, Any] = {"correlation_id": f"c{number}", "timestamp": NOW + number, "principal": "ana"}
        said: dict[str, Any] = {
            **mine,
            "from_agent": "RAGAgent",
            "causation_id": f"m{number}",
            "handling_id": f"h{number}",
        }
        yield [
            Message(
                message_id=f"m{number}",
                from_agent="user:ana",
                to_agent="RAGAgent",
                message_type="request",
                kind="Ask",
                content=Ask(question="how are sales defined?").model_dump_json(),
                **mine,
            ),
            Message(
                message_id=f"h{number}",
                to_agent="",
                message_type="receipt",
                kind="Receipt",
                content=Receipt(outcome="handled", handled_ms=1.0).model_dump_json(),
                **said,
            ),
            Message(
                message_id=f"a{number}",
                to_agent=EVERYONE,
                message_type="event",
                kind="AuditRecorded",
                content=fact.model_dump_json(),
                **said,
            ),
            Message(
                message_id=f"r{number}",
                to_agent="user:ana",
                message_type="response",
                kind="KnowledgeRetrieved",
                content=answer,
                **said,
            ),
        ]


if __name__ == "__main__":
    main()
