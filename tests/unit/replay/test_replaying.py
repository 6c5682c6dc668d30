"""What a handler sees in a replay is what it saw, and nothing of what it does gets out."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bus.fold import claim_of, valid_rows
from bus.keys import Keyring
from bus.trust import SignedTrust, TrustEverybody
from schemas.envelope import Message
from schemas.payloads import Payload
from tests.contract.harness import MemoryWorld, Ping, message
from tests.fakes import FakeEngine, eventually, sample_policy
from tests.unit.agents.stage import ENVIRONMENT, TABLE, Stage
from workers.adapters.replaying import ReplayingEngine
from workers.execution.agent import ExecutionAgent
from workers.governance.agent import GovernanceAgent
from workers.ports import Statement
from workers.runtime.base import Context, Outgoing, Received, Worker, reply
from workers.runtime.clock import micros
from workers.runtime.comparing import Comparison, compare
from workers.runtime.redrive import redriven
from workers.runtime.replaying import Moment, Recording, Replayed, Replayer, recordings


class Noted(Payload):
    """What stands in the middle of a handling."""

    n: int


class Spy(Worker):
    """Remembers what it saw. Sends one row before it ends, and one with its receipt."""

    handles = (Ping,)

    def __init__(self) -> None:
        self.saw: dict[str, tuple[Any, ...]] = {}
        self.gate = asyncio.Event()

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        assert isinstance(message.payload, Ping)
        await self.gate.wait()
        seen = [row.message_id for row in context.conversation]
        self.saw[message.message.message_id] = (seen, context.principal, context.attempt, sorted(context.claims))
        await context.commit([Outgoing("user:eli", Noted(n=message.payload.n), "response")])
        return [reply(message, Noted(n=len(seen)))]


def history(commits: Sequence[Sequence[Message]], agent: str | None = None) -> list[Recording]:
    valid = valid_rows(row for commit in commits for row in commit)
    conversations = dict.fromkeys(row.correlation_id for row in valid)
    found = [list(recordings([r for r in valid if r.correlation_id == name])) for name in conversations]
    return [one for one in itertools.chain(*found) if agent in (None, one.agent)]


@pytest.fixture
async def world() -> AsyncIterator[MemoryWorld]:
    made = MemoryWorld()
    yield made
    await made.close()


async def settled(world: MemoryWorld, count: int) -> None:
    await eventually(lambda: len(world.receipts()) >= count)


async def test_a_handler_sees_what_it_saw_then(world: MemoryWorld) -> None:
    spy = Spy()
    host = await world.host(spy)
    bus = world.bus()
    asked = [message(Ping(n=n), "Spy", f"c{n % 2}") for n in range(6)]
    for one in asked:  # all of them wait before the first is handled, and more comes in between
        bus.submit([one]).result()
    bus.submit([message(Noted(n=0), "user:ana", "c0")]).result()
    spy.gate.set()
    await settled(world, 6)
    bus.submit([message(Noted(n=9), "user:ana", "c0")]).result()
    await world.stop(host)
    again = Spy()
    again.gate.set()
    replayer = Replayer(again, TrustEverybody())
    found = history(world.memory.commits)
    verdicts = [compare(one, await replayer.replay(one)) for one in found]
    assert again.saw == spy.saw
    assert len(again.saw) == 6
    # Each later one saw what the earlier ones of its conversation had said.
    assert len({len(seen) for seen, *_ in again.saw.values()}) > 2
    assert {one.verdict for one in verdicts} == {"same"}
    assert [one.differences for one in verdicts if one.differences] == []


async def test_what_a_handling_sent_before_it_ended_is_part_of_what_came_out(world: MemoryWorld) -> None:
    spy = Spy()
    spy.gate.set()
    await world.host(spy)
    world.bus().submit([message(Ping(n=7), "Spy")]).result()
    await settled(world, 1)
    (recording,) = history(world.memory.commits)
    assert [row.kind for row in recording.outputs] == ["Noted", "Noted"]
    assert [row.handling_id is None for row in recording.outputs] == [True, False]


async def test_nothing_is_committed(world: MemoryWorld) -> None:
    spy = Spy()
    spy.gate.set()
    await world.host(spy)
    world.bus().submit([message(Ping(n=7), "Spy")]).result()
    await settled(world, 1)
    before = list(world.memory.commits)
    replayer = Replayer(spy, TrustEverybody())
    for recording in history(before):
        replayed = await replayer.replay(recording)
        assert [row.kind for row in replayed.outputs] == ["Noted", "Noted"]
    assert world.memory.commits == before


async def test_the_attempt_that_counted_is_the_one_that_is_tried(world: MemoryWorld) -> None:
    class Picky(Spy):
        name = "Spy"

        async def handle(self, message: Received, context: Context) -> list[Outgoing]:
            self.saw[message.message.message_id] = (context.attempt,)
            raise RuntimeError("never")

    picky = Picky()
    await world.host(picky)
    world.bus().submit([message(Ping(n=1), "Spy")]).result()
    await settled(world, 1)
    (recording,) = history(world.memory.commits)
    assert recording.said.outcome == "dead"
    again = Picky()
    found = compare(recording, await Replayer(again, TrustEverybody()).replay(recording))
    assert again.saw == {recording.message.message_id: (recording.said.attempts,)}
    assert found.verdict == "still_failing"
    assert "never" in found.reason
    assert "test_replaying.py" in found.reason


async def test_a_redriven_message_is_replayed_as_what_it_repeats(world: MemoryWorld) -> None:
    class Recovering(Spy):
        name = "Spy"
        max_attempts = 1

        def __init__(self, broken: bool) -> None:
            super().__init__()
            self.broken = broken

        async def handle(self, message: Received, context: Context) -> list[Outgoing]:
            if self.broken:
                raise RuntimeError("out of order")
            self.gate.set()
            return await super().handle(message, context)

    spy = Recovering(broken=True)
    await world.host(spy)
    bus = world.bus()
    asked = message(Ping(n=1), "Spy")
    bus.submit([asked]).result()
    await settled(world, 1)
    spy.broken = False
    bus.submit([redriven(asked, "Spy", "eli", asked.timestamp)]).result()
    await settled(world, 2)
    replayer = Replayer(Recovering(broken=False), TrustEverybody())
    first, second = history(world.memory.commits)
    assert (first.said.outcome, second.said.outcome) == ("dead", "handled")
    assert compare(first, await replayer.replay(first)).verdict == "repaired"
    assert [row.causation_id for row in second.outputs[:-1]] == [asked.message_id] * 2
    assert '"message.redriven"' in second.outputs[-1].content
    assert compare(second, await replayer.replay(second)) == Comparison("same", "", ())


# --- effects ---------------------------------------------------------------------------------------------------------


@dataclass
class Court:
    """A stage's executions, replayed."""

    stage: Stage

    async def replay(
        self, worker: type[ExecutionAgent] = ExecutionAgent, kind: str = "RunCode"
    ) -> tuple[Recording, Replayed, Comparison]:
        moment = Moment()
        rows = valid_rows(row for commit in self.stage.log.commits for row in commit)
        claims = {claim_of(row): row for row in rows if row.kind == "ExecutionClaimed"}
        trust = SignedTrust(Keyring.load(self.stage.keys), TABLE, ENVIRONMENT)
        replayer = Replayer(worker(ReplayingEngine(moment), environment=ENVIRONMENT), trust, moment, claims)
        found = [one for one in history(self.stage.log.commits, "ExecutionAgent") if one.message.kind == kind]
        replayed = await replayer.replay(found[-1])
        return found[-1], replayed, compare(found[-1], replayed)


async def executed(folder: Path, engine: FakeEngine) -> Stage:
    stage = Stage(folder, engine)
    await stage.host()
    asked = stage.ask("eli")
    stage.decide("ada", await stage.pending(asked))
    await stage.answer(asked)
    await stage.close()
    stage.hosts.clear()
    return stage


async def test_an_execution_is_given_back_and_not_run(tmp_path: Path) -> None:
    stage = await executed(tmp_path, FakeEngine())
    commits = len(stage.log.commits)
    recording, replayed, found = await Court(stage).replay()
    assert found == Comparison("same", "", ())
    assert [row.kind for row in recording.outputs] == [
        "ExecutionClaimed",
        "ExecutionSettled",
        "AuditRecorded",
        "CodeRun",
    ]
    assert [row.kind for row in replayed.outputs] == [row.kind for row in recording.outputs]
    assert len(stage.engine.ran) == 1
    assert len(stage.log.commits) == commits


async def test_a_grant_that_was_used_before_the_message_is_still_used(tmp_path: Path) -> None:
    stage = await executed(tmp_path, FakeEngine())
    root = next(row for commit in stage.log.commits for row in commit if row.kind == "Ask")
    first = stage.rows(root, "RunCode")[0]
    again = first.model_copy(update={"message_id": "again", "signature": None, "key_id": None, "handling_id": None})
    stage.bus("GovernanceAgent").submit([again]).result()
    await stage.host(ExecutionAgent(stage.engine, environment=ENVIRONMENT))
    await stage.settled(again)
    await stage.close()
    stage.hosts.clear()
    recording, _, found = await Court(stage).replay()
    assert recording.message.message_id == "again"
    assert found.verdict == "same"
    assert any(row.kind == "Refused" and "grant.used" in row.content for row in recording.outputs)


async def test_a_crash_after_the_claim_is_in_doubt_again(tmp_path: Path) -> None:
    class Hanging(FakeEngine):
        started = asyncio.Event()

        async def run(self, *asked: Any, digest: str | None = None) -> Any:
            self.started.set()
            await asyncio.Event().wait()

    engine = Hanging()
    stage = Stage(tmp_path, engine)
    host = await stage.host()
    asked = stage.ask("eli")
    stage.decide("ada", await stage.pending(asked))
    await engine.started.wait()
    stage.hosts.remove(host)
    await host.stop(patience_s=0.001)  # the process is gone, as far as the log can tell
    stage.clock.advance(10)
    await stage.host(*stage.workers()[:3], ExecutionAgent(FakeEngine(), environment=ENVIRONMENT))
    await stage.answer(asked)
    await stage.close()
    stage.hosts.clear()
    recording, _, found = await Court(stage).replay()
    assert recording.committed == ()  # the claim was another handling's, and this one found it
    assert found == Comparison("same", "", ())
    assert "in_doubt" in recording.outputs[0].content


async def test_a_dry_run_that_the_log_does_not_hold_is_skipped(tmp_path: Path) -> None:
    class Curious(ExecutionAgent):
        name = "ExecutionAgent"

        async def handle(self, message: Received, context: Context) -> list[Outgoing]:
            try:
                await self._engine.dry_run(Statement("sql", "SELECT * FROM tpch.nation"))
            except Exception:
                return []
            raise AssertionError("it answered")

    stage = await executed(tmp_path, FakeEngine())
    for kind in ("DryRunCode", "RunCode"):
        _, _, found = await Court(stage).replay(Curious, kind)
        assert found.verdict == "skipped"
        assert found.reason.startswith("effect:")


async def test_tables_that_had_moved_are_not_made_up(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    await stage.host()
    asked = stage.ask("eli")
    approval = await stage.pending(asked)
    stage.engine.moved = True
    stage.decide("ada", approval)
    await eventually(lambda: stage.rows(asked, "Refused"))
    await stage.close()
    stage.hosts.clear()
    _, _, found = await Court(stage).replay()
    assert (found.verdict, found.reason.split(":")[0]) == ("skipped", "effect")


async def test_a_decision_is_made_as_of_its_time(tmp_path: Path) -> None:
    """An approval that expired long ago had not expired when ada decided."""
    stage = await executed(tmp_path, FakeEngine())
    trust = SignedTrust(Keyring.load(stage.keys), TABLE, ENVIRONMENT)
    stage.clock.advance(1_000_000)
    for ttl, verdict, paths in ((3600.0, "same", []), (1800.0, "different", ["expires_at"])):
        replayer = Replayer(GovernanceAgent(stage.roles, sample_policy(), ENVIRONMENT, approval_ttl_s=ttl), trust)
        for recording in history(stage.log.commits, "GovernanceAgent"):
            found = compare(recording, await replayer.replay(recording))
            if recording.message.kind == "CodeDryRun":
                assert found.verdict == verdict
                assert sorted({one.path for one in found.differences} & {"expires_at"}) == paths
            else:
                assert found.verdict == "same"
    assert micros(stage.clock.now()) > recording.receipt.timestamp
