"""The engine against a child that is a small script: what it makes of answers, silence, noise and death."""

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
import structlog

from workers.adapters.sandbox.engine import SparkSandbox
from workers.ports import StatementFailed, StatementRefused

#: Speaks the child's side of the protocol; `behave` decides what happens to a request.
CHILD = """#!{python}
import json, os, signal, sys, time
def say(**document):
    print(json.dumps(document), flush=True)
{hello}
for line in sys.stdin:
    request = json.loads(line)
    number = request["id"]
    with open({heard!r}, "a") as heard:
        heard.write(line)
    {behave}
"""

HELLO = "say(ready=True, abi=7)"
ANSWER = "say(id=number, answer={'statement_class': 'select', 'columns': ['a'], 'table_versions': {}, 'plan': 'p', 'digest': 'd'})"
EXECUTED = "{'columns': ['a'], 'rows': [[1]], 'truncated': False, 'row_count': 1}"

Make = Callable[..., SparkSandbox]


@pytest_asyncio.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[SparkSandbox] = []

    def make(behave: str, hello: str = HELLO, timeout_s: float = 20) -> SparkSandbox:
        script = tmp_path / "python"
        text = CHILD.format(python=os.sys.executable, hello=hello, behave=behave, heard=str(tmp_path / "heard"))
        script.write_text(text)
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        made.append(SparkSandbox(tmp_path / "home", python=str(script), timeout_s=timeout_s))
        (tmp_path / "home").mkdir(exist_ok=True)
        return made[-1]

    yield make
    for sandbox in made:
        await sandbox.close()


async def test_an_answer_becomes_values(make: Make) -> None:
    sandbox = make(ANSWER)

    dry = await sandbox.dry_run("SELECT 1 AS a", None)

    assert (dry.columns, dry.digest, dry.statement_class) == (("a",), "d", "select")
    assert dry.elapsed_ms > 0


async def test_a_run_asks_for_exactly_what_was_given(make: Make, tmp_path: Path) -> None:
    done = await make(f"say(id=number, answer={EXECUTED})").run("SELECT 1", "results.x", "grant-1", 7, digest="d")

    heard = json.loads((tmp_path / "heard").read_text())
    assert done.result.rows == ((1,),)
    assert heard == {
        "id": 1, "ask": "run", "sql": "SELECT 1", "target": "results.x", "grant_id": "grant-1", "row_limit": 7, "digest": "d",
    }  # fmt: skip


async def test_errors_keep_their_kind(make: Make) -> None:
    with pytest.raises(StatementRefused) as refused:
        await make("say(id=number, error='refused', rule='sql.x', reason='because')").dry_run("x", None)
    assert refused.value.rule == "sql.x"

    with pytest.raises(StatementFailed, match="no table"):
        await make("say(id=number, error='failed', reason='no table')").dry_run("x", None)


async def test_a_child_that_dies_before_the_write_has_changed_nothing(make: Make) -> None:
    sandbox = make(
        "print('java.lang.OutOfMemoryError', file=sys.stderr, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )

    with pytest.raises(StatementFailed, match="process ended"):
        await sandbox.run("x", "results.x", "grant-1", 1)


@pytest.mark.parametrize(
    ("staged", "rule"),
    [
        ({"target": "results.other"}, "target.mismatch"), ({"folder": "../../keys"}, "target.files"),
        ({"folder": "/etc"}, "target.files"), ({"folder": ""}, "target.files"), ({"verb": "drop"}, "target.files"),
    ],
)  # fmt: skip
async def test_a_child_that_lies_about_what_it_staged_writes_nothing(
    make: Make, tmp_path: Path, staged: dict, rule: str
) -> None:
    """The child is where other people's SQL runs: what it says is checked, not believed."""
    said = {"folder": "stage-1/table", "target": "results.x", "version": None, "verb": "create"} | staged
    sandbox = make(f"say(id=number, answer={EXECUTED} | {{'staged': {said!r}}})")

    with pytest.raises(StatementRefused) as refused:
        await sandbox.run("SELECT 1 AS a", "results.x", "grant-1", 1)

    assert refused.value.rule == rule
    assert list((tmp_path / "home" / "warehouse" / "results").iterdir()) == []


async def test_a_child_that_staged_nothing_has_failed(make: Make, tmp_path: Path) -> None:
    said = {"folder": "stage-1/table", "target": "results.x", "version": None, "verb": "create"}

    with pytest.raises((StatementFailed, StatementRefused)):
        await make(f"say(id=number, answer={EXECUTED} | {{'staged': {said!r}}})").run("x", "results.x", "grant-1", 1)

    assert list((tmp_path / "home" / "warehouse" / "results").iterdir()) == []


async def test_a_child_that_takes_too_long_is_stopped_and_the_limit_named(make: Make) -> None:
    sandbox = make("time.sleep(60)", timeout_s=1.0)

    with pytest.raises(StatementFailed, match="longer than 1 s"):
        await sandbox.run("x", "results.x", "grant-1", 1)
    assert sandbox._process is None


async def test_a_run_is_cancelled_by_its_grant_and_the_next_one_runs(make: Make, tmp_path: Path) -> None:
    slow = f"time.sleep(60) if request['sql'] == 'slow' else None; say(id=number, answer={EXECUTED})"
    sandbox = make(slow)
    running = asyncio.create_task(sandbox.run("slow", "results.x", "grant-1", 1))
    while not (tmp_path / "heard").exists():
        await asyncio.sleep(0.01)
    child = sandbox._process.pid

    waiting = asyncio.create_task(sandbox.run("quick", "results.x", "grant-2", 1))
    await asyncio.sleep(0)
    assert not await sandbox.cancel("grant-9")
    assert await sandbox.cancel("grant-2")
    assert await sandbox.cancel("grant-1")
    with pytest.raises(StatementFailed, match="before it began"):
        await waiting

    with pytest.raises(StatementFailed, match="cancelled, and changed nothing"):
        await running
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert (await sandbox.run("quick", None, "grant-3", 1)).result.rows == ((1,),)
    assert not await sandbox.cancel("grant-3")


async def test_the_next_request_finds_a_new_child(make: Make) -> None:
    sandbox = make(f"os._exit(3) if request['sql'] == 'die' else {ANSWER}")

    with pytest.raises(StatementFailed):
        await sandbox.dry_run("die", None)
    assert (await sandbox.dry_run("live", None)).digest == "d"


@pytest.mark.parametrize(
    "noise", ["print('not JSON', flush=True)", "print('[]', flush=True)", "say(id=99, answer=1)", "say(id=None)"]
)
async def test_what_is_no_answer_ends_the_child(make: Make, noise: str) -> None:
    with pytest.raises(StatementFailed):
        await make(noise).dry_run("x", None)


async def test_a_child_that_cannot_close_its_sandbox_says_why(make: Make) -> None:
    sandbox = make("pass", hello="say(error='failed', reason='the sandbox could not be closed'); sys.exit(1)")

    with pytest.raises(StatementFailed, match="could not be closed"):
        await sandbox.warm()


async def test_a_program_that_is_not_there_fails_clearly(tmp_path: Path) -> None:
    sandbox = SparkSandbox(tmp_path, python=str(tmp_path / "nothing"))

    with pytest.raises(StatementFailed, match="did not start"):
        await sandbox.warm()


async def test_requests_are_answered_one_at_a_time(make: Make) -> None:
    sandbox = make(f"time.sleep(0.02); {ANSWER}")

    answers = await asyncio.gather(*(sandbox.dry_run(f"SELECT {n}", None) for n in range(5)))

    assert [answer.digest for answer in answers] == ["d"] * 5


async def test_closing_leaves_neither_process_nor_scratch_folder(make: Make, tmp_path: Path) -> None:
    sandbox = make(ANSWER)
    await sandbox.dry_run("x", None)
    pid = sandbox._process.pid

    await sandbox.close()
    await sandbox.close()

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert list((tmp_path / "home").glob("scratch-*")) == []


async def test_scratch_folders_of_dead_engines_are_removed(make: Make, tmp_path: Path) -> None:
    sandbox = make(ANSWER)
    nobody = await asyncio.create_subprocess_exec("true")
    await nobody.wait()
    for owner in (nobody.pid, 1):
        (tmp_path / "home" / f"scratch-{owner}-x" / "inner").mkdir(parents=True)

    await sandbox.dry_run("x", None)
    await sandbox.close()

    assert [folder.name for folder in (tmp_path / "home").glob("scratch-*")] == ["scratch-1-x"]


async def test_secrets_of_the_environment_stay_here(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABRICKS_TOKEN", "secret")  # what a host really has

    await make(f"open({str(tmp_path / 'environment')!r}, 'w').write(json.dumps(dict(os.environ))); {ANSWER}").dry_run(
        "x", None
    )

    environment = json.loads((tmp_path / "environment").read_text())
    assert "DATABRICKS_TOKEN" not in environment
    assert environment["HOME"] == environment["TMPDIR"]


async def test_without_landlock_it_works_and_warns_loudly(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.adapters.sandbox.landlock.available", lambda: False)  # a fact of the kernel
    sandbox = make(ANSWER)

    with structlog.testing.capture_logs() as logs:
        await sandbox.dry_run("x", None)

    warning = next(entry for entry in logs if entry["event"] == "sandbox.unprotected")
    assert sandbox.protection == "none"
    assert warning["log_level"] == "warning"
    assert warning["unprotected"] == [str(tmp_path / "home" / name) for name in ("keys", "tables")]
    assert warning["remedy"]


def test_outcomes_are_asked_only_for_targets(tmp_path: Path) -> None:
    sandbox = SparkSandbox(tmp_path)

    assert sandbox.outcome_of("grant-1", "results.x") is None
    with pytest.raises(StatementRefused):
        sandbox.outcome_of("grant-1", "../keys")
