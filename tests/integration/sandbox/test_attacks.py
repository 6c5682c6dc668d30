"""What `tests/attacks/sql_smuggling.py` leaves to say: runs refuse as dry runs do, and what is deep harms nobody."""

from pathlib import Path

import pytest
from deltalake import DeltaTable

from tests.attacks.sql_smuggling import SEVEN, state_of
from workers.adapters.sandbox.engine import SparkSandbox
from workers.ports import StatementRefused

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]


@pytest.mark.parametrize(("rule", "sql"), SEVEN, ids=[sql[:40] for _, sql in SEVEN])
async def test_a_run_refuses_it_as_the_dry_run_does(sandbox: SparkSandbox, home: Path, rule: str, sql: str) -> None:
    before = state_of(home)

    with pytest.raises(StatementRefused) as refused:
        await sandbox.run(sql.replace("HOME", str(home)), "results.stolen", "a grant", 10)

    assert refused.value.rule == rule
    assert state_of(home) == before


async def test_after_all_of_them_no_table_has_changed(home: Path) -> None:
    versions = {folder.name: DeltaTable(str(folder)).version() for folder in (home / "warehouse" / "tpch").iterdir()}

    assert versions == dict.fromkeys(versions, 0)
    assert len(versions) == 8


@pytest.mark.parametrize(
    "deep",
    ["(" * 20_000 + "1" + ")" * 20_000, "1+" * 20_000 + "1 AS a", "NOT " * 10_000 + "true AS a"],
    ids=["brackets", "sums", "nots"],
)
async def test_a_statement_that_overflows_a_stack_harms_nobody(sandbox: SparkSandbox, deep: str) -> None:
    child = sandbox._process.pid

    with pytest.raises(StatementRefused) as refused:
        await sandbox.dry_run(f"SELECT {deep}", None)

    assert refused.value.rule == "sql.too_deep"
    assert (await sandbox.run("SELECT 1 AS a", None, "a grant", 1)).result.rows == ((1,),)
    assert sandbox._process.pid == child


async def test_the_refused_statement_is_named(sandbox: SparkSandbox) -> None:
    said = {}
    for sql in (
        "SHOW TABLES",
        "SET a = 1",
        "VACUUM tpch.nation",
        "CALL f()",
    ):
        with pytest.raises(StatementRefused) as refused:
            await sandbox.dry_run(sql, None)
        said[sql.split()[0].lower()] = refused.value.reason.split()[0]

    assert said == {word: word for word in said}


async def test_variables_are_not_replaced(sandbox: SparkSandbox) -> None:
    done = await sandbox.run("SELECT '${env:PATH}' AS a, '${system:user.dir}' AS b", None, "a grant", 1)

    assert done.result.rows == (("${env:PATH}", "${system:user.dir}"),)
