from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.emulators import azure_port, s3_port
from tests.contract.harness import LogWorld, MemoryWorld, StreamingWorld
from tests.contract.sparks import spark

__all__ = ["azure_port", "s3_port", "spark"]


@pytest.fixture(
    params=["memory", "log", pytest.param("streaming", marks=[pytest.mark.integration, pytest.mark.timeout(300)])]
)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    """A bus and its feed: the whole contract holds on each."""
    match request.param:
        case "memory":
            made: Any = MemoryWorld()
        case "log":
            made = LogWorld(tmp_path)
        case _:
            made = StreamingWorld(tmp_path, request.getfixturevalue("spark"))
    yield made
    await made.close()


@pytest.fixture
async def log_world(tmp_path: Path) -> AsyncIterator[Any]:
    made = LogWorld(tmp_path)
    yield made
    await made.close()


@pytest.fixture(params=["log", pytest.param("streaming", marks=[pytest.mark.integration, pytest.mark.timeout(300)])])
async def table_world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    """Those of them that keep a table, for what only a table can suffer."""
    made = LogWorld(tmp_path) if request.param == "log" else StreamingWorld(tmp_path, request.getfixturevalue("spark"))
    yield made
    await made.close()
