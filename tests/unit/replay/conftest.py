from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from apps.cli.main import app
from config.settings import Settings
from jobs import logging
from tests.unit.replay.recorded import RecordedSystem, converse, make_home


@dataclass(frozen=True)
class Recorded:
    """A home of one's own with what was recorded, and its conversations by what they are about."""

    system: RecordedSystem
    said: dict[str, str]


@pytest.fixture(autouse=True)
def quiet_logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A logger keeps the stream it was made with, and a test's is closed after it."""
    monkeypatch.setattr(logging, "configure", lambda *_, **__: None)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Recorded once: nobody writes into it."""
    system = make_home(tmp_path_factory.mktemp("recorded") / "home")
    return Recorded(system, asyncio.run(converse(system)))


@pytest.fixture
def recorded(original: Recorded, tmp_path: Path) -> Recorded:
    shutil.copytree(original.system.home.root, tmp_path / "home")
    return Recorded(RecordedSystem(Settings.load(home=str(tmp_path / "home"))), original.said)


@dataclass(frozen=True)
class Said:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Said]


@pytest.fixture
def run(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`tailrace replay` in the home that was recorded."""
    monkeypatch.setenv("TAILRACE_HOME", str(recorded.system.home.root))
    monkeypatch.setenv("COLUMNS", "120")

    def command(*words: str) -> Said:
        done = CliRunner().invoke(app, ["replay", *words])
        return Said(done.exit_code, done.stdout, done.stderr)

    return command
