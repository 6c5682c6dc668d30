"""What becomes of a run: proven by its target, ended by a person or by time, waiting for its turn, settled by somebody else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.envelope import MAX_CONTENT, Message
from schemas.payloads import (
    BeginRun,
    CancelExecution,
    CodeRun,
    ExecutionAnswered,
    ExecutionClaimed,
    ExecutionSettled,
    Failed,
    GrantRevoked,
    Refused,
    RequestExecution,
    RunCode,
    SettleExecution,
)
from tests.fakes import FakeEngine, eventually
from tests.unit.agents.stage import Stage
from tests.unit.agents.test_execution import EXECUTION, GOVERNANCE, SQL, executor, granted, outcome, run
from workers.execution import under_way
from workers.execution.limits import ROOM, Limits
from workers.ports import DryRun, Executed, Outcome, OutcomeUnknown, Rows, Statement, StatementFailed

MARK = Outcome("results.x", 7)


def settled(stage: Stage, root: Message) -> list[tuple[str, str | None]]:
    return [(one.step, one.settled_by) for one in stage.payloads(root, "ExecutionSettled")]


class Slow(FakeEngine):
    """Runs until it is told to go on, or to end. `deaf`: does not end when asked; `begun`: what it is at."""

    def __init__(self, raises: Exception | None = None, deaf: bool = False) -> None:
        super().__init__()
        self.raises, self.deaf = raises, deaf
        self.begun: dict[str, asyncio.Event] = {}
        self.ended: list[str] = []

    async def run(self, statement: Statement, grant_id: str, row_limit: int, *, digest: str | None = None) -> Executed:
        self.begun[grant_id] = go_on = asyncio.Event()
        try:
            await go_on.wait()
        finally:
            self.ended.append(grant_id)
        if self.raises is not None:
            raise self.raises
        return await super().run(statement, grant_id, row_limit, digest=digest)

    async def cancel(self, grant_id: str) -> bool:
        if self.deaf or grant_id not in self.begun:
            return False
        self.raises = self.raises or StatementFailed("the engine's process ended")
        self.begun[grant_id].set()
        return True


# --- proofs -----------------------------------------------------------------------------------------------------------


async def test_what_the_target_says_settles_an_unknown_outcome(stage: Stage) -> None:
    stage.engine.fails = OutcomeUnknown("the connection broke")
    stage.engine.wrote["grant-1"] = MARK
    await stage.host(executor(stage))
    root, approval, said = await granted(stage)
    done = await outcome(stage, run(stage, said, approval))
    assert isinstance(done, CodeRun)
    assert (done.row_count, done.result.table, done.result.table_version) == (None, "results.x", 7)
    assert "bears the mark of grant-1" in done.proof
    (last,) = stage.payloads(root, "ExecutionSettled")
    assert (last.step, last.settled_by, last.table_version, last.table_version_before) == ("done", EXECUTION, 7, 6)


async def test_no_mark_and_nothing_left_running_proves_that_it_did_not_happen(stage: Stage) -> None:
    stage.engine.fails = OutcomeUnknown("the connection broke")
    await stage.host(executor(stage))
    root, approval, said = await granted(stage)
    failed = await outcome(stage, run(stage, said, approval))
    assert (type(failed), failed.rule) == (Failed, "execution.failed")
    (last,) = stage.payloads(root, "ExecutionSettled")
    assert last.step == "failed"
    assert "bears no mark" in last.proof


@pytest.mark.parametrize(
    ("gone", "mark", "silent", "saved_to", "step"),
    [
        (True, None, False, "results.x", "failed"),
        (True, MARK, False, "results.x", "done"),
        # It may still be running somewhere: a mark is a proof, no mark is none.
        (False, None, False, "results.x", "in_doubt"),
        (False, MARK, False, "results.x", "done"),
        # Nobody to ask.
        (True, None, True, "results.x", "in_doubt"),
        (True, None, False, None, "in_doubt"),
    ],
)
async def test_a_claim_of_a_process_that_died_is_settled_as_far_as_the_target_proves_it(
    tmp_path: Path, gone: bool, mark: Outcome | None, silent: bool, saved_to: str | None, step: str
) -> None:
    stage = Stage(tmp_path, engine := Slow())
    host = await stage.host(executor(stage, process="the first"))
    root, approval, said = await granted(stage, saved_to=saved_to)
    ran = run(stage, said, approval)
    await eventually(lambda: engine.begun)
    stage.hosts.remove(host)
    await host.stop(patience_s=0.001)
    again = FakeEngine()
    again.silent = silent
    if mark is not None:
        again.wrote["grant-1"] = mark
    await stage.host(executor(stage, again, process="the second", gone=lambda process: gone and process == "the first"))
    told = await outcome(stage, ran)
    assert again.ran == []
    assert [one for one, _ in settled(stage, root)] == [step]
    assert isinstance(told, CodeRun if step == "done" else Failed)
    await stage.close()


# --- cancel -----------------------------------------------------------------------------------------------------------


def cancel(stage: Stage, user: str, grant_id: str = "grant-1") -> Message:
    return stage.client(user).send(EXECUTION, CancelExecution(grant_id=grant_id, reason="too slow"))


async def test_whoever_asked_ends_their_run_and_it_is_cancelled_when_proven_not_done(tmp_path: Path) -> None:
    stage = Stage(tmp_path, engine := Slow())
    await stage.host(executor(stage))
    root, approval, said = await granted(stage)
    ran = run(stage, said, approval)
    await eventually(lambda: engine.begun)
    answer = await stage.reply_to(cancel(stage, "eli"))
    assert (answer.accepted, answer.rule) == (True, "execution.cancelled")
    told = await outcome(stage, ran)
    assert (type(told), told.rule) == (Failed, "execution.cancelled")
    assert "eli ended it: too slow" in told.reason
    assert settled(stage, root) == [("cancelled", None)]
    assert (await outcome(stage, run(stage, said, approval))).rule == "grant.used"
    await stage.close()


async def test_a_run_that_waits_in_its_engine_ends_with_the_wish(tmp_path: Path) -> None:
    stage = Stage(tmp_path, engine := Slow(deaf=True))
    await stage.host(executor(stage))
    root, approval, said = await granted(stage)
    run(stage, said, approval)
    await eventually(lambda: engine.begun)
    assert (await stage.reply_to(cancel(stage, "ada"))).rule == "execution.cancelled"
    assert engine.ended == ["grant-1"]
    await eventually(lambda: settled(stage, root) == [("cancelled", None)])
    await stage.close()


async def test_a_cancelled_run_that_may_have_written_is_in_doubt_and_one_that_did_is_done(tmp_path: Path) -> None:
    for silent, rule, step in ((True, "execution.in_doubt", "in_doubt"), (False, "execution.done", "done")):
        stage = Stage(tmp_path / step, engine := Slow(OutcomeUnknown("killed while it wrote")))
        engine.silent = silent
        engine.wrote["grant-1"] = MARK
        await stage.host(executor(stage))
        root, approval, said = await granted(stage)
        run(stage, said, approval)
        await eventually(lambda engine=engine: engine.begun)
        answer = await stage.reply_to(cancel(stage, "eli"))
        assert (answer.accepted, answer.rule) == (silent, rule)
        await eventually(lambda stage=stage, root=root: settled(stage, root))
        assert [one for one, _ in settled(stage, root)] == [step]
        await stage.close()


@pytest.mark.parametrize(
    ("user", "grant_id", "rule"),
    [
        ("ned", "grant-1", "rbac.execution.approve"),
        ("rob", "grant-1", "rbac.execution.approve"),
        ("eli", "grant-9", "execution.not_begun"),
    ],
)
async def test_a_run_is_ended_by_who_may(tmp_path: Path, user: str, grant_id: str, rule: str) -> None:
    stage = Stage(tmp_path, engine := Slow())
    await stage.host(executor(stage))
    _, approval, said = await granted(stage)
    ran = run(stage, said, approval)
    await eventually(lambda: engine.begun)
    answer = await stage.reply_to(said_by := cancel(stage, user, grant_id))
    assert (answer.accepted, answer.rule) == (False, rule)
    assert ("execution.cancel", rule) in stage.facts(said_by)
    engine.begun["grant-1"].set()
    assert isinstance(await outcome(stage, ran), CodeRun)
    # What has ended cannot be ended.
    assert (await stage.reply_to(cancel(stage, "ada"))).rule == "execution.not_running"
    await stage.close()


# --- time and turns ---------------------------------------------------------------------------------------------------


async def test_a_run_that_takes_too_long_is_ended_and_says_so(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Slow())
    await stage.host(executor(stage, limits=Limits(run_s=0.01)))
    root, approval, said = await granted(stage)
    told = await outcome(stage, run(stage, said, approval))
    assert (type(told), told.rule) == (Failed, "execution.timeout")
    assert "longer than 0.01 s" in told.reason
    assert settled(stage, root) == [("failed", None)]
    await stage.close()


async def while_time_passes(stage: Stage, awaited: Coroutine[Any, Any, Any], seconds: float = 2.0) -> Any:
    """A clock that goes on until it is there: whoever sleeps may not have begun to when it is first moved."""
    waiting = asyncio.create_task(awaited)
    while not waiting.done():
        stage.clock.advance(seconds)
        await asyncio.sleep(0.005)
    return waiting.result()


class Endless(Slow):
    """Does not end when it is told to, nor when it is given up."""

    async def run(self, statement: Statement, grant_id: str, row_limit: int, *, digest: str | None = None) -> Executed:
        self.begun[grant_id] = asyncio.Event()
        while not self.begun[grant_id].is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.begun[grant_id].wait()
        raise StatementFailed("late")


async def test_what_does_not_end_may_still_write_so_no_mark_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_way, "END_S", 0.01)
    stage = Stage(tmp_path, engine := Endless(deaf=True))
    await stage.host(executor(stage, limits=Limits(run_s=0.01), process="here"))
    root, approval, said = await granted(stage)
    told = await outcome(stage, run(stage, said, approval))
    assert (type(told), told.rule) == (Failed, "execution.in_doubt")
    assert settled(stage, root) == [("in_doubt", None)]
    # A person's word is not contradicted by a mark that may still come.
    assert (await settle(stage, "ada", "done", root)).rule == "execution.settled"
    engine.begun["grant-1"].set()
    await stage.close()


async def several(stage: Stage, count: int) -> Sequence[tuple[Message, Message]]:
    """Conversations of eli's, each with a grant of its own that is about to run."""
    found = []
    for number in range(count):
        root, approval, said = await granted(stage, grant_id=f"grant-{number}")
        found.append((root, sent := run(stage, said, approval)))
        # Each has begun, or has been told to wait, before the next one comes.
        await eventually(lambda sent=sent: stage.rows(sent, "ExecutionClaimed", "BeginRun"))
    return found


async def test_one_person_has_so_many_runs_at_once_and_the_rest_wait_in_the_log(tmp_path: Path) -> None:
    stage = Stage(tmp_path, engine := Slow())
    await stage.host(executor(stage, limits=Limits(per_principal=2)))
    both = await several(stage, 3)
    _, waits = both[2]
    await stage.settled(waits)  # it holds no place
    await eventually(lambda: sorted(engine.begun) == ["grant-0", "grant-1"])
    assert ("execution.waits", "execution.busy") in stage.facts(waits)
    assert stage.rows(waits, "ExecutionClaimed") == []
    (again,) = stage.rows(waits, "BeginRun")
    await while_time_passes(stage, stage.settled(again))  # still no place
    engine.begun["grant-0"].set()
    await outcome(stage, both[0][1])
    await while_time_passes(stage, eventually(lambda: "grant-2" in engine.begun))
    engine.begun["grant-2"].set()
    assert isinstance(await outcome(stage, waits), CodeRun)
    assert stage.facts(waits).count(("execution.waits", "execution.busy")) == 1
    engine.begun["grant-1"].set()
    await stage.close()


async def test_what_waits_longer_than_its_grant_holds_is_refused(tmp_path: Path) -> None:
    stage = Stage(tmp_path, engine := Slow())
    await stage.host(executor(stage, limits=Limits(at_once=1)))
    (_, _), (_, waits) = await several(stage, 2)
    await stage.settled(waits)
    told = await while_time_passes(stage, outcome(stage, waits), 500)
    assert (type(told), told.rule) == (Refused, "grant.expired")
    engine.begun["grant-0"].set()
    await stage.close()


@pytest.mark.parametrize("sender", ["user:eli", GOVERNANCE])
async def test_nobody_else_says_when_a_run_begins(stage: Stage, sender: str) -> None:
    await stage.host(executor(stage))
    root, approval, said = await granted(stage)
    ran = run(stage, said, approval)
    await outcome(stage, ran)
    again = stage.say(sender, EXECUTION, BeginRun(message_id=ran.message_id), root, message_type="request")
    await stage.settled(again)
    assert ("execution.ignored", "execution.unasked") in stage.facts(root)
    assert len(stage.engine.ran) == 1


# --- tables that moved ------------------------------------------------------------------------------------------------


async def test_tables_may_move_as_far_as_the_grant_says_and_no_further(tmp_path: Path) -> None:
    for drift, ran in ((1, True), (0, False)):
        stage = Stage(tmp_path / str(drift))
        await stage.host(executor(stage))
        _, approval, said = await granted(stage, table_drift=drift)
        stage.engine.moved = True
        told = await outcome(stage, run(stage, said, approval))
        assert isinstance(told, CodeRun) == ran
        assert bool(stage.engine.ran) == ran
        if not ran:
            assert told.rule == "grant.dry_run_changed"
            assert "tpch.customer moved from version 0 to 1" in told.reason
        await stage.close()


class Changed(FakeEngine):
    """At its second look, and with every further one, something is other than it was."""

    def __init__(self, **changed: Any) -> None:
        super().__init__()
        self.changed = changed

    async def dry_run(self, statement: Statement) -> DryRun:
        return replace(await super().dry_run(statement), **self.changed)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"table_versions": {"tpch.customer": 2}}, "moved from version 0 to 2; 1 versions are allowed"),
        ({"table_versions": {"tpch.customer": 1}, "plan": "Scan something else"}, "its plan changed"),
        ({"columns": ("c_phone",)}, "its columns changed"),
        ({"statement_class": "delete", "writes": "results.y"}, "its class, target changed"),
        ({"table_versions": {}}, "tpch.customer is gone"),
        ({"table_versions": {"tpch.customer": 0, "tpch.orders": 0}}, "tpch.orders is there, and was not"),
    ],
)
async def test_where_tables_may_move_all_else_must_be_as_it_was(
    tmp_path: Path, changed: dict[str, Any], says: str
) -> None:
    stage = Stage(tmp_path, engine := Changed(**changed))
    await stage.host(executor(stage))
    root, approval, said = await granted(stage, table_drift=1)
    told = await outcome(stage, run(stage, said, approval))
    assert (type(told), told.rule) == (Refused, "grant.dry_run_changed")
    assert says in told.reason
    assert engine.ran == stage.rows(root, "ExecutionClaimed") == []
    await stage.close()


async def test_a_revoked_grant_is_not_claimed(stage: Stage) -> None:
    await stage.host(executor(stage))
    root, approval, said = await granted(stage)
    stage.say(GOVERNANCE, "*", GrantRevoked(grant_id="grant-1", executor=EXECUTION, actor="ada", reason="wrong"), root)
    told = await outcome(stage, run(stage, said, approval))
    assert (type(told), told.rule) == (Refused, "grant.revoked")
    assert "ada took the grant back: wrong" in told.reason
    assert stage.engine.ran == []


# --- results ----------------------------------------------------------------------------------------------------------


class Wide(FakeEngine):
    async def run(self, statement: Statement, grant_id: str, row_limit: int, *, digest: str | None = None) -> Executed:
        rows = tuple(("x" * 1000, float("nan"), "\ud800", b"\xff") for _ in range(2000))
        return Executed(
            Rows(("a", "b", "c", "d"), rows, False), 2000, None, None, 1.0, None, "warehouse/.results/g.parquet"
        )


async def test_a_result_that_no_message_holds_is_cut_and_its_file_named(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Wide())
    await stage.host(executor(stage, limits=Limits(bytes=10_000)))
    root, approval, said = await granted(stage)
    done = await outcome(stage, run(stage, said, approval))
    assert isinstance(done, CodeRun)
    assert 0 < len(done.result.rows) < 10
    assert (done.result.truncated, done.row_count) == (True, 2000)
    assert done.result.reference == "warehouse/.results/g.parquet"
    assert settled(stage, root) == [("done", None)]
    await stage.close()


class Chatty(Wide):
    async def run(self, statement: Statement, grant_id: str, row_limit: int, *, digest: str | None = None) -> Executed:
        return replace(await super().run(statement, grant_id, row_limit), output="\x00" * 100_000, elapsed_ms=2.0)


async def test_an_outcome_fits_beside_the_longest_request_that_is_begun(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Chatty())
    await stage.host(executor(stage))
    root, approval, said = await granted(stage)
    room = MAX_CONTENT - ROOM - len(said.model_dump_json().encode())
    done = await outcome(stage, run(stage, said.model_copy(update={"question": "q" * room}), approval))
    assert isinstance(done, CodeRun)
    assert settled(stage, root) == [("done", None)]
    await stage.close()


async def test_what_leaves_no_room_for_an_outcome_is_not_begun(stage: Stage) -> None:
    await stage.host(executor(stage))
    root, approval, said = await granted(stage)
    long = said.model_copy(update={"question": "x" * 1_030_000})
    told = await outcome(stage, run(stage, long, approval))
    assert (type(told), told.rule) == (Refused, "execution.size")
    assert stage.rows(root, "ExecutionClaimed") == []


async def test_whoever_asked_gets_the_answer_to_what_they_asked(stage: Stage) -> None:
    await stage.host(executor(stage))
    root, approval, said = await granted(stage)
    wish = RequestExecution(question="q", code=said.code, target="results.x")
    asked = stage.say("OrchestratorAgent", GOVERNANCE, wish, root, message_type="request")
    run(stage, said, approval)
    assert isinstance(await stage.reply_to(asked), CodeRun)


# --- settle -----------------------------------------------------------------------------------------------------------


async def in_doubt(stage: Stage, mark: Outcome | None = None, silent: bool = True) -> Message:
    """An execution that is in doubt, with what its target says once somebody asks. Its root message."""
    stage.engine.fails, stage.engine.silent = OutcomeUnknown("the connection broke"), True
    await stage.host(executor(stage, process="here"))
    root, approval, said = await granted(stage)
    await outcome(stage, run(stage, said, approval))
    stage.engine.silent = silent
    if mark is not None:
        stage.engine.wrote["grant-1"] = mark
    return root


async def settle(stage: Stage, user: str, word: str, root: Message, **changed: Any) -> ExecutionAnswered:
    said = {"grant_id": "grant-1", "outcome": word, "reason": "I looked at the table"} | changed
    client = stage.client(user)
    sent = client.send(
        EXECUTION,
        SettleExecution.model_validate(said),
        correlation_id=root.correlation_id,
        causation_id=root.message_id,
    )
    answer = await stage.reply_to(sent)
    assert isinstance(answer, ExecutionAnswered)
    return answer


async def test_another_person_settles_what_is_in_doubt_once(stage: Stage) -> None:
    root = await in_doubt(stage)
    assert settled(stage, root) == [("in_doubt", None)]
    answer = await settle(stage, "ada", "done", root)
    assert (answer.accepted, answer.rule) == (True, "execution.settled")
    assert settled(stage, root)[1:] == [("done", "ada")]
    again = await settle(stage, "bea", "failed", root)
    assert (again.accepted, again.rule) == (False, "execution.settled")
    assert "settled by ada" in again.reason
    assert len(settled(stage, root)) == 2


@pytest.mark.parametrize(
    ("user", "changed", "rule"),
    [
        ("eli", {}, "execution.four_eyes"),
        ("ned", {}, "rbac.execution.approve"),
        ("rob", {}, "rbac.execution.approve"),
        ("ada", {"grant_id": "grant-9"}, "execution.unknown"),
        ("ada", {"reason": "  "}, "execution.reason"),
    ],
)
async def test_who_may_settle_and_what(stage: Stage, user: str, changed: dict[str, Any], rule: str) -> None:
    root = await in_doubt(stage)
    answer = await settle(stage, user, "done", root, **changed)
    assert (answer.accepted, answer.rule) == (False, rule)
    assert len(settled(stage, root)) == 1


@pytest.mark.parametrize(("mark", "proven"), [(MARK, "done"), (None, "failed")])
@pytest.mark.parametrize("word", ["done", "failed"])
async def test_where_the_target_proves_it_the_proof_decides(
    stage: Stage, mark: Outcome | None, proven: str, word: str
) -> None:
    root = await in_doubt(stage, mark, silent=False)
    answer = await settle(stage, "ada", word, root)
    assert (answer.accepted, answer.rule) == (word == proven, "execution.proven")
    assert "mark of grant-1" in answer.reason
    last = stage.payloads(root, ExecutionSettled.kind())[-1]
    assert (last.step, last.settled_by) == (proven, "ada" if word == proven else EXECUTION)
    assert last.table_version == (7 if mark else None)


async def test_a_claim_whose_process_may_live_is_not_settled(stage: Stage) -> None:
    root, approval, said = await granted(stage)
    theirs = ExecutionClaimed(
        grant_id="grant-1",
        requester="eli",
        question="q",
        code=SQL,
        target="results.x",
        approved_by="ada",
        instance="another",
        process="elsewhere",
    )
    stage.say(EXECUTION, "*", theirs, approval)
    await stage.host(executor(stage, process="here"))
    assert (await settle(stage, "ada", "failed", root)).rule == "execution.running"
    assert isinstance(said, RunCode)
