"""Shared memory in a handler: the principal's rights, and every write once, however often the handler runs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bus.log.table import DeltaLog
from bus.memory import MemoryBus
from bus.shared import Asker, Rights, SharedMemory
from bus.trust import TrustEverybody
from schemas.envelope import Message
from schemas.tables import AGENT_SHARED_MEMORY
from tests.contract.harness import HastyClock, Ping, message
from workers.ports import MemoryRefused, PortError
from workers.runtime.base import Context, Outgoing, Received, Worker
from workers.runtime.memory import HandlerMemory
from workers.runtime.middleware.retry import Retry
from workers.runtime.runner import Runner

ADA = Asker("user:ada", "ada")


class Roles(Rights):
    def role_of(self, principal: str | None) -> str | None:
        return {"eli": "engineer"}.get(principal or "")

    def manages(self, principal: str | None) -> bool:
        return principal == "ada"


class Counts(Worker):
    """Adds one to a counter twice, and fails as often as it is told to."""

    handles = (Ping,)

    def __init__(self, fails: int = 0) -> None:
        self.fails = fails
        self.saw: list[Any] = []

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        memory = context.memory
        before = await memory.get("counts", "n") or 0
        self.saw.append(before)
        await memory.put("counts", "n", before + 1)
        await memory.put("counts", "n", before + 2)
        await memory.put("counts", f"of {message.message.message_id}", "was here", ttl_s=5)
        if context.attempt <= self.fails:
            raise RuntimeError("not yet")
        return []


class Stage:
    def __init__(self, folder: Path, worker: Worker) -> None:
        log = DeltaLog(folder / "agent_shared_memory", AGENT_SHARED_MEMORY)
        log.create()
        self.shared = SharedMemory(log, Roles())
        self.bus = MemoryBus()
        clock = HastyClock()
        self.runner = Runner(
            worker,
            "Counts-1",
            self.bus,
            TrustEverybody(),
            clock,
            [Retry(clock)],
            memory_of=partial(HandlerMemory, self.shared),
        )

    async def handle(self, one: Message) -> dict[str, Any]:
        import json

        rows = await self.runner.handle(one)
        found: dict[str, Any] = json.loads(rows[0].content)
        return found


async def test_a_handler_that_runs_again_writes_once(tmp_path: Path) -> None:
    worker = Counts(fails=2)
    stage = Stage(tmp_path, worker)
    one = message(Ping(n=1), to="Counts")
    assert (await stage.handle(one))["outcome"] == "handled"
    assert worker.saw == [0, 2, 2]
    assert stage.shared.get("counts", "n", ADA) == 2
    await stage.handle(one)  # a host died before its commit, and another takes over
    assert stage.shared.get("counts", "n", ADA) == 2
    await stage.handle(message(Ping(n=2), to="Counts"))
    assert stage.shared.get("counts", "n", ADA) == 4
    assert len(stage.shared.keys("counts", ADA)) == 3


async def test_what_a_handler_writes_says_for_whom_and_why(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Counts())
    one = message(Ping(n=1), to="Counts")
    await stage.handle(one)
    found, _ = DeltaLog(tmp_path / "agent_shared_memory", AGENT_SHARED_MEMORY).scan()
    (row,) = [row for row in found.to_pylist() if row["key"].startswith("of ")]
    assert (row["writer"], row["principal"], row["message_id"]) == ("Counts", "eli", one.message_id)
    assert (row["expires_at"] - row["timestamp"]).total_seconds() == 5


async def test_a_handler_has_the_rights_of_whoever_began_the_conversation(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Counts())
    stage.shared.define("counts", [], ["engineer"], ADA)
    assert (await stage.handle(message(Ping(n=1), to="Counts")))["outcome"] == "handled"
    refused = await stage.handle(message(Ping(n=1), to="Counts", from_agent="user:ana", principal="ana"))
    assert refused["outcome"] == "dead"
    assert refused["reason"].startswith(f"{MemoryRefused.__name__}: ana may not read counts")


async def test_without_shared_memory_a_handler_is_told_so() -> None:
    clock = HastyClock()
    runner = Runner(Counts(), "Counts-1", MemoryBus(), TrustEverybody(), clock, [])
    rows = await runner.handle(message(Ping(n=1), to="Counts"))
    assert PortError.__name__ in rows[0].content
    assert "without shared memory" in rows[0].content


@pytest.mark.parametrize("name", ["", "x" * 501])
async def test_a_bad_name_is_the_handlers_mistake(tmp_path: Path, name: str) -> None:
    class Misnames(Counts):
        async def handle(self, message: Received, context: Context) -> list[Outgoing]:
            await context.memory.put("s", name, 1)
            return []

    assert "1 to 500" in (await Stage(tmp_path, Misnames()).handle(message(Ping(n=1), to="Misnames")))["reason"]
