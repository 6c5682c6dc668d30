"""Python and PySpark run already in their dry run: what a policy keeps from somebody, it keeps from that as well."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from schemas.payloads import Code, Refused, RequestExecution
from tests.fakes import eventually, policy_of
from tests.unit.agents.stage import Stage

POLICY = policy_of(
    {
        "id": "customer.contact_data",
        "effect": "deny",
        "reason": "how to reach a customer is personal data",
        "when": {"roles": ["data_engineer"], "columns": ["tpch.customer.c_ph*"]},
    },
    {
        "id": "execution.four_eyes",
        "effect": "approve",
        "reason": "another person has to approve what is run",
        "when": {"subject": ["execution"], "reads_only": ["tpch.*"]},
        "approval": {"needs": [{"group": "admin", "count": 1}]},
    },
)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = Stage(tmp_path, policy=POLICY)
    yield made
    await made.close()


@pytest.mark.parametrize("language", ["python", "pyspark"])
@pytest.mark.parametrize(
    ("reads", "rule"),
    [
        (["tpch.customer"], "customer.contact_data"),
        (["tpch.nation", "TPCH.Customer"], "customer.contact_data"),
        (["hr.salary"], "default.deny"),
        (["tpch.nation", "hr.salary"], "default.deny"),
    ],
)
async def test_a_program_over_forbidden_tables_is_not_even_tried(
    stage: Stage, language: str, reads: list[str], rule: str
) -> None:
    await stage.host()
    code = Code(language=language, text="result = 1")
    asked = stage.client("eli").send("GovernanceAgent", RequestExecution(question="q", code=code, reads=reads))

    answer = await stage.reply_to(asked)

    assert isinstance(answer, Refused)
    assert answer.rule == rule
    assert stage.rows(asked, "DryRunCode") == []


async def test_a_program_over_other_tables_is_tried(stage: Stage) -> None:
    await stage.host()
    code = Code(language="python", text="result = 1")
    asked = stage.client("eli").send(
        "GovernanceAgent", RequestExecution(question="q", code=code, reads=["tpch.nation"])
    )

    assert await eventually(lambda: stage.rows(asked, "DryRunCode"))


async def test_what_sql_reads_is_not_known_before(stage: Stage) -> None:
    await stage.host()
    code = Code(language="sql", text="SELECT c_name FROM tpch.customer")
    asked = stage.client("eli").send("GovernanceAgent", RequestExecution(question="q", code=code))

    assert await eventually(lambda: stage.rows(asked, "DryRunCode"))
