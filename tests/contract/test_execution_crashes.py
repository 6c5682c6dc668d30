"""An execution process that is really killed between claim and outcome: what its target proves settles it, nothing runs twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from bus.client import TailraceClient
from jobs.agents import Agent, find
from jobs.bootstrap import System
from schemas.envelope import USER, Message
from schemas.payloads import KINDS, CodeRun, ExecutionClaimed, ExecutionSettled, Failed, Payload
from tests.contract.execution_host import ENVIRONMENT, POINTS, DeltaEngine, host_of
from tests.fakes import eventually
from tests.unit.agents.test_execution import EXECUTION, GOVERNANCE, granted
from tests.unit.audit.recorded import make_home
from workers.runtime.whereabouts import alive

PATIENCE = 60.0


class Place:
    """A real home, in which everybody may be spoken for: as a stage is to the tests in memory."""

    def __init__(self, root: Path) -> None:
        self.system: System = make_home(root)
        self._clients: dict[str, TailraceClient] = {}

    @property
    def now(self) -> int:
        return time.time_ns() // 1000

    def client(self, user: str) -> TailraceClient:
        return self._clients.setdefault(user, self.system.client(user))

    def say(self, sender: str, to: str, payload: Payload, cause: Message, **envelope: Any) -> Message:
        about = {"correlation_id": cause.correlation_id, "causation_id": cause.message_id}
        if sender.startswith(USER):
            return self.client(sender.removeprefix(USER)).send(to, payload, **about)
        row = Message(
            **{
                "message_id": f"said-{self.now}",
                "from_agent": sender,
                "to_agent": to,
                "message_type": "event" if to == "*" else "response",
                "kind": payload.kind(),
                "content": payload.model_dump_json(),
                "timestamp": self.now,
                "principal": cause.principal,
                **about,
                **envelope,
            }
        )
        agent = find(sender)
        bus = self.system.bus([Agent(agent.name, agent.short, agent.host, agent.build, "tail")])
        bus.submit([row]).result(PATIENCE)
        bus.close()
        return row

    def payloads(self, cause: Message, model: type[Payload]) -> list[Any]:
        found = self.client("eli").conversation(cause.correlation_id)
        return [KINDS[m.kind].model_validate_json(m.content) for m in found if m.kind == model.kind()]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


def run_until_killed(home: Path, point: str) -> None:
    command = [sys.executable, "-m", "tests.contract.execution_host", str(home), point]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("point", POINTS)
async def test_a_killed_execution_is_settled_by_what_its_target_proves(tmp_path: Path, point: str) -> None:
    place = Place(tmp_path / "home")
    home = place.system.home.root
    root, approval, said = await granted(place, environment=ENVIRONMENT)
    place.say(GOVERNANCE, EXECUTION, said, approval, message_type="request")
    run_until_killed(home, point)
    (claim,) = place.payloads(root, ExecutionClaimed)
    assert alive(claim.process) is False
    assert place.payloads(root, ExecutionSettled) == []

    again = DeltaEngine(home)
    host = host_of(home, again)
    await host.start()
    (settled,) = await eventually(lambda: place.payloads(root, ExecutionSettled), PATIENCE)
    await host.stop()

    assert again.ran == []
    assert (settled.step, settled.settled_by) == ("done" if point == "written" else "failed", EXECUTION)
    assert "the mark of grant-1" in settled.proof or "no mark of grant-1" in settled.proof
    assert len(place.payloads(root, CodeRun if point == "written" else Failed)) == 1
    target = home / "warehouse" / "results" / "x"
    versions = [entry["version"] for entry in DeltaTable(str(target)).history()] if target.exists() else []
    assert versions == ([0] if point == "written" else [])
    place.close()
