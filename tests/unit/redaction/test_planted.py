"""Secrets planted wherever text comes in, then looked for in every byte that a real home holds afterwards."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import structlog

from bus.redaction import Redactor
from jobs import logging
from schemas.payloads import Ask, GenerateCode
from tests.fakes import eventually
from tests.unit.replay.recorded import AGENTS, RecordedSystem, make_home
from workers.runtime.base import Context, Outgoing, Received, Worker, audit

#: One for each way in, so that a leak names the way it took.
PLANTS = {
    "a question": "qu3stionPa55",
    "the JSON of a message": "j5onPa55word",
    "a bulk append": "bulkPa55word",
    "an exception": "3xceptionPa55",
    "an audit fact": "auditPa55word",
    "shared memory": "memoryPa55w0rd",
    "a log line": "l0gPa55word",
    "a variable of the environment": "envPa55word",
}


class Leaking(Worker):
    """Says everything it should not."""

    name = "CodeAgent"
    handles = (GenerateCode,)
    max_attempts = 1

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        await context.memory.put("notes", "found", {"password": PLANTS["shared memory"]})
        structlog.get_logger().warning("connecting", url=f"jdbc:x://bob:{PLANTS['a log line']}@db/x")
        await context.commit([audit("connected", "done", secret=PLANTS["an audit fact"])])
        raise RuntimeError(f"cannot connect: password={PLANTS['an exception']}")


def leaks(folder: Path, printed: str) -> list[str]:
    """`plant in file`, for raw bytes and for what a parquet file holds once it is read."""
    found = [f"{way} in what was printed" for way, secret in PLANTS.items() if secret in printed]
    for file in sorted(folder.rglob("*")):
        if not file.is_file():
            continue
        data = file.read_bytes()
        if file.suffix == ".parquet":
            data += str(pq.ParquetFile(io.BytesIO(data)).read().to_pylist()).encode()
        found += [f"{way} in {file.relative_to(folder)}" for way, secret in PLANTS.items() if secret.encode() in data]
    return found


async def everything(system: RecordedSystem) -> None:
    """Text comes in everywhere; the connected host handles, fails, logs and projects."""
    (code,) = [agent for agent in AGENTS if agent.name == "CodeAgent"]
    host = await asyncio.to_thread(system.host, [replace(code, build=lambda _: Leaking())], "tail")
    await host.start()
    try:
        with system.client("eli") as eli:
            asked = eli.send("CodeAgent", GenerateCode(question=f"my password is {PLANTS['a question']}"))
            eli.send("Nobody", Ask(question=f'{{"api_key": "{PLANTS["the JSON of a message"]}"}}'))
            content = Ask(question=f"password={PLANTS['a bulk append']}").model_dump_json()
            eli.send_many([{"to": "Nobody", "kind": "Ask", "content": content}] * 50)
            await eventually(lambda: [m for m in eli.conversation(asked.correlation_id) if m.kind == "Failed"])
    finally:
        await host.stop()


@pytest.mark.parametrize("masking", [True, False])
def test_no_secret_is_in_any_file_or_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], masking: bool
) -> None:
    """With masking off they are all over the place: this test can fail."""
    monkeypatch.setenv("UNRELATED_PASSWORD", PLANTS["a variable of the environment"])
    system = make_home(tmp_path / "home")
    if not masking:
        system.__dict__["redactor"] = Redactor([])
    kept = structlog.get_config()
    logging.configure("DEBUG", json_lines=True, redactor=system.redactor)
    structlog.configure(**structlog.get_config() | {"cache_logger_on_first_use": False})
    try:
        asyncio.run(everything(system))
    finally:
        structlog.configure(**kept)
    said = capfd.readouterr()
    found = leaks(tmp_path, said.out + said.err)
    if masking:
        assert found == []
    else:
        assert {one.partition(" in ")[0] for one in found} == PLANTS.keys() - {"a variable of the environment"}
