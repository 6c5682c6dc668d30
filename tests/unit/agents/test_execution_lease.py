"""ExecutionAgent after a pause: an instance whose lease was ended meanwhile starts no effect, and says that it did not."""

from __future__ import annotations

import uuid
from pathlib import Path

from schemas.payloads import ExecutionClaimed, ExecutionSettled, Failed, InstanceChanged
from tests.fakes import FakeEngine
from tests.unit.agents.stage import Stage
from tests.unit.agents.test_execution import EXECUTION, GOVERNANCE, executor, granted
from workers.ports import DryRun, Statement


class Pausing(FakeEngine):
    """While it looks at how far tables moved, another instance ends this one's lease: as happens to a process that sleeps."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._stage = stage

    async def dry_run(self, statement: Statement) -> DryRun:
        bus = self._stage.bus(EXECUTION)
        (newest,) = bus.state.leases.values()
        said = InstanceChanged.model_validate_json(newest.content).model_copy(update={"step": "ended", "by": "another"})
        ended = {"message_id": uuid.uuid4().hex, "content": said.model_dump_json(), "log_version": -1, "seq": -1}
        bus.submit([newest.model_copy(update=ended | {"key_id": None, "signature": None})]).result()
        return await super().dry_run(statement)


async def test_no_effect_is_started_under_a_lease_that_others_ended(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    engine = Pausing(stage)
    host = await stage.host(executor(stage, engine))
    before = host.instances[EXECUTION].name
    root, _, run = await granted(stage, table_drift=1)
    asked = stage.say(GOVERNANCE, EXECUTION, run, root, message_type="request")
    await stage.settled(asked)
    (claim,) = stage.payloads(root, ExecutionClaimed.kind())
    assert claim.instance == before
    assert engine.ran == []
    (settled,) = stage.payloads(root, ExecutionSettled.kind())
    assert settled.step == "failed"
    assert "not run" in settled.reason
    (told,) = stage.payloads(root, Failed.kind())
    assert told.rule == "execution.lease_lost"
    await stage.close()
