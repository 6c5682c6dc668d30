"""What a decision of the policy costs, beside a signature in the same run."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jobs.bench.table import Measurements
from schemas.payloads import Code, CodeDryRun, EffectPreview
from schemas.policy import Policy
from workers.governance.lineage import Lineage
from workers.governance.policy import PolicyEngine, Question

Say = Callable[[str], None]

RULES = 200
ROUNDS = 2_000
#: Milliseconds.
GOAL = 2.0

SQL = """WITH big AS (SELECT o.o_custkey, sum(l.l_extendedprice * (1 - l.l_discount)) AS sales FROM tpch.lineitem AS l
JOIN tpch.orders AS o ON l.l_orderkey = o.o_orderkey WHERE o.o_orderdate >= DATE '1995-01-01' GROUP BY o.o_custkey)
SELECT c.c_name, big.sales FROM big JOIN tpch.customer AS c ON c.c_custkey = big.o_custkey ORDER BY big.sales DESC LIMIT 10"""
COLUMNS = {
    "tpch.customer": ["c_custkey", "c_name", "c_phone", "c_address", "c_acctbal"],
    "tpch.orders": ["o_orderkey", "o_custkey", "o_orderdate", "o_totalprice"],
    "tpch.lineitem": ["l_orderkey", "l_extendedprice", "l_discount", "l_tax"],
}


def measure(say: Say, out: Measurements, rounds: int = ROUNDS) -> None:
    say(f"decisions by {RULES} rules")
    engine = PolicyEngine(policy(RULES))
    lineage = Lineage(lambda table, _: COLUMNS.get(table))
    key = Ed25519PrivateKey.generate()
    body = b"x" * 400
    code, dry_run = Code(language="sql", text=SQL), _dry_run()
    asked = [_question(number, lineage.reads(code, dry_run)) for number in range(50)]
    decided, read, signed = [], [], []
    # One of each in turn, so that whatever else the machine does counts for all of them.
    for number in range(rounds):
        decided.append(_timed(partial(engine.decide, asked[number % len(asked)])))
        signed.append(_timed(partial(key.sign, body)))
        if number % 10 == 0:  # it costs more, and is no goal
            code = Code(language="sql", text=f"{SQL} -- {number}")  # or it would be remembered
            read.append(_timed(partial(lineage.reads, code, dry_run)))
    median = out.times(f"policy: a decision, {RULES} rules", decided)
    signature = out.times("  a signature (Ed25519)", signed)
    out.times("  lineage of a join of three tables", read)
    out.ratio("policy: decision / signature", median / signature, "", True)
    out.figure("policy: decision p50", f"{median:.2f} ms", f"under {GOAL:g} ms", median < GOAL)


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def policy(rules: int) -> Policy:
    """Rules such as people write, of which the last decides: all of them are looked at."""
    return Policy.model_validate({"version": 1, "rules": list(_rules(rules))})


def _rules(count: int) -> Iterator[dict[str, Any]]:
    chance = random.Random(7)
    for number in range(count - 1):
        when: dict[str, Any] = {"subject": ["execution"], "roles": ["data_engineer", "admin"], "languages": ["sql"]}
        if number % 2:
            when |= {"reads": [f"schema{number}.*", "tpch.part*"], "rows_over": chance.randrange(10**6)}
            effect = {"effect": "deny"}
        else:
            when |= {"classes": ["write", "create"], "writes_only": [f"results.team{number}_*"]}
            effect = {"effect": "approve", "approval": {"needs": [{"group": "admin", "count": 1}]}}
        if number % 5 == 0:
            when |= {"columns": ["tpch.customer.c_phone", f"schema{number}.*.secret_*"]}
        yield {"id": f"rule.{number}", "reason": "so", "when": when, **effect}
    approval = {"needs": [{"group": "admin", "count": 1}]}
    yield {"id": "last", "effect": "approve", "reason": "so", "when": {"subject": ["execution"]}, "approval": approval}


def _question(number: int, reads: Any) -> Question:
    effect = EffectPreview(
        table="results.x", version=1, rows_before=10, rows_after=10, added=0, changed=number, removed=number
    )
    return Question(
        "execution",
        "eli",
        "data_engineer",
        "dev",
        datetime.now(UTC),
        language="sql",
        statement_class="create",
        reads=reads,
        writes=f"results.x{number}",
        rows=number,
        bytes=number,
        changes=effect,
        confidence=0.5,
    )


def _dry_run() -> CodeDryRun:
    return CodeDryRun(
        code_sha256="",
        statement_class="create",
        columns=[],
        table_versions=dict.fromkeys(COLUMNS, 0),
        plan="",
        digest="",
        writes="results.x",
    )
