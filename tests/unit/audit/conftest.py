from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.bootstrap import System
from tests.unit.audit.recorded import make_home, open_home, record


@pytest.fixture(scope="session")
def recorded_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """To be read only; `home` is a copy."""
    system = make_home(tmp_path_factory.mktemp("recorded") / "home")
    asyncio.run(record(system))
    return system.home.root


@pytest.fixture
def home(recorded_home: Path, tmp_path: Path) -> System:
    return copy_of(recorded_home, tmp_path / "home")


def copy_of(home: Path, to: Path) -> System:
    shutil.copytree(home, to)
    return open_home(to)


@pytest.fixture
def fresh(recorded_home: Path, tmp_path: Path) -> Callable[[str], System]:
    """As many copies as a test wants, by name."""
    return lambda name: copy_of(recorded_home, tmp_path / name)
