"""The benchmark of decisions measures what it says: all rules are looked at, beside a signature."""

from __future__ import annotations

from jobs.bench.decisions import RULES, measure, policy
from jobs.bench.table import Measurements
from tests.unit.policy.questions import question
from workers.governance.policy import PolicyEngine


def test_the_last_of_all_rules_decides() -> None:
    engine = PolicyEngine(policy(RULES))
    asked = question(
        statement_class="create", writes="results.mine", rows=0, reads={"tpch.orders": frozenset({"o_orderkey"})}
    )
    looks = engine.explain(asked)
    assert len(looks) == RULES
    assert [look.rule.id for look in looks if look.truth is not False] == ["last"] == [engine.decide(asked).rule]


def test_decisions_signatures_and_lineage_are_measured_in_one_run() -> None:
    out = Measurements()
    measure(lambda _: None, out, rounds=20)
    counts = {row.what.strip(): row.count for row in out.rows}
    assert counts["a signature (Ed25519)"] == counts[f"policy: a decision, {RULES} rules"] == 20
    assert counts["lineage of a join of three tables"] == 2
    assert any(row.target == "under 2 ms" for row in out.rows)
