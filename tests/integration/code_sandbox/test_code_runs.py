"""What an agent sees of the engine: dry runs that change nothing, runs that write one version, and refusals with their rules."""

import asyncio
import os
from pathlib import Path

import pytest
from deltalake import DeltaTable

from tests.integration.code_sandbox.conftest import TIGHT, eventually
from workers.adapters.code_sandbox.engine import CodeSandbox
from workers.ports import Outcome, Statement, StatementFailed, StatementRefused

UPPER = Statement(
    "python",
    "import pyarrow.compute as pc\n"
    "nation = tables['tpch.nation']\n"
    "print(nation.num_rows, 'nations')\n"
    "result = nation.set_column(1, 'name', pc.utf8_lower(nation['n_name']))\n",
    "results.lower",
    ("tpch.nation",),
)
ROWS = [[0, "algeria"], [1, "argentina"], [2, "brazil"]]


def versions(home: Path) -> dict[str, int]:
    return {
        str(log.parent.relative_to(home)): DeltaTable(str(log.parent)).version()
        for log in home.glob("warehouse/*/*/_delta_log")
    }


async def test_a_dry_run_shows_the_effect_and_leaves_no_trace(sandbox: CodeSandbox, own_home: Path) -> None:
    before = versions(own_home)

    found = await sandbox.dry_run(UPPER)

    assert versions(own_home) == before
    assert not list(own_home.glob("scratch-*"))
    assert (found.statement_class, found.writes, found.columns) == ("create", "results.lower", ("n_nationkey", "name"))
    assert found.table_versions == {"tpch.nation": 0}
    assert found.estimated_rows == 3
    assert found.output == "3 nations\n"
    assert found.plan.splitlines()[1:] == [
        "reads tpch.nation version 0: 3 rows",
        "gave 3 rows: n_nationkey int64, name string",
        "creates results.lower",
        "printed:",
        "3 nations",
    ]
    assert found.effect is not None
    assert (found.effect.rows_before, found.effect.rows_after, found.effect.added) == (0, 3, 3)
    assert found.effect.sample_added is not None
    assert sorted(found.effect.sample_added.rows) == ROWS


async def test_what_was_approved_is_written_once_with_the_grants_mark(sandbox: CodeSandbox, own_home: Path) -> None:
    approved = await sandbox.dry_run(UPPER)

    done = await sandbox.run(UPPER, "grant-1", 2, digest=approved.digest)

    assert (done.row_count, done.table, done.table_version, done.table_version_before) == (3, "results.lower", 0, None)
    assert done.result.truncated
    assert [list(row) for row in done.result.rows] == ROWS[:2]
    written = DeltaTable(str(own_home / "warehouse" / "results" / "lower"))
    assert [list(row.values()) for row in written.to_pyarrow_table().to_pylist()] == ROWS
    assert await sandbox.outcome_of("grant-1", "results.lower") == Outcome("results.lower", 0)
    assert await sandbox.outcome_of("grant-2", "results.lower") is None

    with pytest.raises(StatementRefused) as refused:  # the table is there now: this is another effect than was approved
        await sandbox.run(UPPER, "grant-1", 2, digest=approved.digest)
    assert refused.value.rule == "grant.dry_run_changed"


async def test_replacing_shows_what_goes_and_what_comes(sandbox: CodeSandbox, own_home: Path) -> None:
    await sandbox.run(UPPER, "grant-1", 0)
    other = Statement(
        "python", "result = [{'n_nationkey': 2, 'name': 'brazil'}, {'n_nationkey': 9, 'name': 'x'}]", "results.lower"
    )

    found = await sandbox.dry_run(other)
    done = await sandbox.run(other, "grant-2", 10, digest=found.digest)

    assert (found.statement_class, found.table_versions) == ("write", {"results.lower": 0})
    assert found.effect is not None
    shown = found.effect
    assert (shown.version, shown.rows_before, shown.rows_after, shown.added, shown.removed) == (0, 3, 2, 1, 2)
    assert shown.sample_added is not None
    assert shown.sample_added.rows == [[9, "x"]]
    assert (done.table_version_before, done.table_version) == (0, 1)
    written = DeltaTable(str(own_home / "warehouse" / "results" / "lower"))
    assert written.to_pyarrow_table().num_rows == 2
    assert DeltaTable(str(own_home / "warehouse" / "results" / "lower"), version=0).to_pyarrow_table().num_rows == 3


async def test_a_long_result_is_kept_as_a_file(sandbox: CodeSandbox, own_home: Path) -> None:
    import pyarrow.parquet as pq

    done = await sandbox.run(Statement("python", "result = [{'n': n} for n in range(50)]"), "grant-1", 5)

    assert (done.row_count, len(done.result.rows), done.result.truncated, done.table) == (50, 5, True, None)
    assert done.reference is not None
    assert pq.read_table(own_home / done.reference).num_rows == 50


async def test_a_result_that_is_no_table_reaches_nobody(sandbox: CodeSandbox) -> None:
    """The code can write what it likes where its result goes."""
    code = "import os\nos.write(3, b'x' * 5000)\nos.write(4, b'{\"done\": true}')\nresult = os._exit(0)"

    with pytest.raises(StatementFailed, match="the result is no table"):
        await sandbox.dry_run(Statement("python", code))


async def test_another_language_is_not_run(sandbox: CodeSandbox) -> None:
    with pytest.raises(StatementRefused) as refused:
        await sandbox.dry_run(Statement("perl", "1"))
    assert refused.value.rule == "execution.language"


async def test_who_cancels_ends_the_code_and_changes_nothing(sandbox: CodeSandbox, own_home: Path) -> None:
    slow = Statement("python", "import time\nprint('begun')\ntime.sleep(600)\nresult = [{'a': 1}]", "results.x")
    running = asyncio.create_task(sandbox.run(slow, "grant-1", 10))
    await eventually(lambda: bool(list(own_home.glob("scratch-*/report"))))

    assert await sandbox.cancel("grant-1")
    assert not await sandbox.cancel("grant-2")
    with pytest.raises(StatementFailed, match="it was cancelled, and changed nothing"):
        await running

    assert not list(own_home.glob("scratch-*"))
    assert await sandbox.outcome_of("grant-1", "results.x") is None
    assert not await sandbox.cancel("grant-1")


async def test_whoever_asked_and_went_leaves_nothing_running(sandbox: CodeSandbox, own_home: Path) -> None:
    running = asyncio.create_task(sandbox.dry_run(Statement("python", "import time\ntime.sleep(600)\nresult = 1")))
    await eventually(lambda: bool(list(own_home.glob("scratch-*/report"))))

    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert not list(own_home.glob("scratch-*"))


async def test_a_home_inside_of_what_code_sees_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    sandbox = CodeSandbox(tmp_path / "home", limits={"python": TIGHT})

    with pytest.raises(StatementRefused) as refused:
        await sandbox.dry_run(Statement("python", "result = [{'a': 1}]"))
    assert refused.value.rule == "execution.sandbox"
    assert not os.path.exists(tmp_path / "home")
