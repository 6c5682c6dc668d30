import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from workers.adapters.code_sandbox import places, runner
from workers.adapters.code_sandbox.engine import CodeSandbox
from workers.adapters.code_sandbox.limits import PYTHON, Limits
from workers.adapters.code_sandbox.process import Ended, Walls

SECRET = "the private half of ada's key"
NATIONS = pa.table({"n_nationkey": [0, 1, 2], "n_name": ["ALGERIA", "ARGENTINA", "BRAZIL"]})

#: Small enough that a run which hits them ends soon.
TIGHT = replace(
    PYTHON, seconds=20, memory=512 * 1024 * 1024, scratch=4 << 20, result=8 << 20, flood=1 << 20, output=2048
)


@pytest.fixture(scope="session")
def code_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lakehouse with one table, and what code must never see beside it."""
    home = tmp_path_factory.mktemp("code-home")
    write_deltalake(str(home / "warehouse" / "tpch" / "nation"), NATIONS)
    write_deltalake(str(home / "warehouse" / "tpch" / "salary"), pa.table({"who": ["ada"], "much": [1]}))
    for folder in ("keys", "tables", "logs"):
        (home / folder).mkdir()
        (home / folder / "secret.txt").write_text(SECRET)
    return home


@pytest.fixture
def own_home(tmp_path: Path, code_home: Path) -> Path:
    """A copy to be written to."""
    shutil.copytree(code_home, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def sandbox(own_home: Path) -> CodeSandbox:
    return CodeSandbox(own_home, limits={"python": TIGHT})


Runs = Callable[..., Awaitable[tuple[Ended, pa.Table | None]]]


@pytest.fixture
def behind_walls(tmp_path: Path) -> Runs:
    """Runs code without any look at it before: what holds it are the walls alone."""

    async def run(code: str, limits: Limits = TIGHT, python: str = sys.executable) -> tuple[Ended, pa.Table | None]:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        ended = await walls(folder, code, limits, python).run()
        result = folder / "result"
        given = result.read_bytes() if result.exists() and ended.status == 0 else b""
        return ended, pa.ipc.open_stream(given).read_all() if given else None

    return run


def walls(
    folder: Path, code: str, limits: Limits = TIGHT, python: str = sys.executable, more: Sequence[str] = ()
) -> Walls:
    tables = folder / "in" / "tables"
    tables.mkdir(parents=True)
    (folder / "in" / "code.py").write_text(code)
    with pa.OSFile(str(tables / "tpch.nation.arrow"), "wb") as file, pa.ipc.new_file(file, NATIONS.schema) as written:
        written.write_table(NATIONS)
    readable, links = places.readable("python")
    settings = {
        "language": "python", "folder": str(folder), "work": str(runner.WORK), "readable": [*readable, *more], "links": links,
        "limits": limits.as_dict(), "engine": {},
    }  # fmt: skip
    return Walls(settings, python)


@pytest.fixture(scope="session")
def world(code_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What code could reach if nothing held it: files, a listening socket of each kind, a process of ours."""
    folder = tmp_path_factory.mktemp("world")
    name = f"tailrace-{uuid.uuid4().hex}"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket(socket.AF_UNIX) as abstract,
        subprocess.Popen(["sleep", "600"]) as stranger,
    ):
        try:
            unix.bind(str(folder / "s"))
            unix.listen()
            abstract.bind(f"\0{name}")
            abstract.listen()
            yield {
                "home": str(code_home),
                "folder": str(folder),
                "port": str(tcp.getsockname()[1]),
                "abstract": name,
                "stranger": str(stranger.pid),
                "agent": str(os.getpid()),
            }
        finally:
            stranger.kill()


def eventually(true: Callable[[], bool]) -> Awaitable[None]:
    async def wait() -> None:
        async with asyncio.timeout(20):
            while not true():
                await asyncio.sleep(0.02)

    return wait()
