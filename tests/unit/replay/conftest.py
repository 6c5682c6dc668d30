from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from config.settings import Settings
from tests.unit.replay.recorded import RecordedSystem, converse, make_home


@dataclass(frozen=True)
class Recorded:
    """A home of one's own with what was recorded, and its conversations by what they are about."""

    system: RecordedSystem
    said: dict[str, str]


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Recorded once: nobody writes into it."""
    system = make_home(tmp_path_factory.mktemp("recorded") / "home")
    return Recorded(system, asyncio.run(converse(system)))


@pytest.fixture
def recorded(original: Recorded, tmp_path: Path) -> Recorded:
    shutil.copytree(original.system.home.root, tmp_path / "home")
    return Recorded(RecordedSystem(Settings.load(home=str(tmp_path / "home"))), original.said)
