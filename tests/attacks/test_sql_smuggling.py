"""No statement of the table gets past the plan check; with that switched off some do what they say, and the walls still hold."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from deltalake import DeltaTable

from tests.attacks.fuzz import fuzz
from tests.attacks.sql_smuggling import BEHIND_WALLS, CLASS, Place, rows_of, state_of
from tests.attacks.table import ATTACKS, Attack
from tests.lakehouses import SECRET
from workers.adapters.sandbox import landlock
from workers.adapters.sandbox.engine import SparkSandbox
from workers.ports import StatementFailed

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]

#: Made at random, in CI.
STATEMENTS = 80

HERE = [one for one in ATTACKS if one.attack_class == CLASS]

#: An interpreter that starts the sandbox's process as always, but for the guard over plans, which takes everything.
UNGUARDED = """#!{python} -P
import sys
sys.path.insert(0, {root!r})
sys.argv = sys.argv[2:]
from workers.adapters.sandbox import child, guard
guard.check_text = lambda sql: None
guard.check_parsed = lambda tree, schemas: None
guard.check_analyzed = lambda *asked: {{}}
child.main()
"""


@pytest.fixture
def place(spark_sandbox: SparkSandbox, lakehouse: Path) -> Place:
    return Place(spark_sandbox, lakehouse)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def unguarded(lakehouse: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """The same sandbox, without its guard: the only thing that is switched off."""
    python = tmp_path_factory.mktemp("unguarded") / "python"
    python.write_text(UNGUARDED.format(python=sys.executable, root=str(Path(__file__).parents[2])))
    python.chmod(0o755)
    sandbox = SparkSandbox(lakehouse, python=str(python), timeout_s=120, cores=1)
    yield Place(sandbox, lakehouse)
    await sandbox.close()


@pytest.mark.parametrize("attack", HERE, ids=lambda one: f"{one.id} {one.does[:50]}")
async def test_it_is_held(attack: Attack, place: Place) -> None:
    came = await attack.attempt(place)

    assert not came.succeeded
    assert came.rules == {attack.rule}


async def test_after_all_of_them_no_table_has_changed(lakehouse: Path) -> None:
    versions = {
        folder.name: DeltaTable(str(folder)).version() for folder in (lakehouse / "warehouse" / "tpch").iterdir()
    }

    assert versions == dict.fromkeys(versions, 0)
    assert len(versions) == 8


@pytest.mark.parametrize("attack", [one for one in HERE if one.without], ids=lambda one: one.id)
async def test_it_succeeds_without_its_guard(attack: Attack, unguarded: Place) -> None:
    assert (await attack.attempt(unguarded)).succeeded


@pytest.mark.skipif(not landlock.available(), reason="this kernel has no Landlock")
@pytest.mark.parametrize("sql", BEHIND_WALLS)
async def test_without_its_guard_the_walls_hold(sql: str, unguarded: Place) -> None:
    before = state_of(unguarded.home)
    try:
        came = str(await rows_of(unguarded, sql))
    except StatementFailed as failed:
        came = str(failed)

    assert SECRET not in came
    assert state_of(unguarded.home) == before


async def test_whatever_is_called_a_query_changes_nothing_when_it_is_run(place: Place) -> None:
    """`python -m tests.attacks.fuzz --minutes 10` goes on longer."""
    found = await fuzz(place.sandbox, place.home, seed=7, statements=STATEMENTS, seconds=None)

    assert found.broken == []
    assert found.ran > STATEMENTS // 20  # otherwise it proves nothing
    assert found.refused.total() > STATEMENTS // 4
