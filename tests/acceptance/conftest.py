from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

#: Seconds one command may take here; the slowest starts three processes and Spark.
PATIENCE_S = 300


@dataclass(frozen=True)
class Said:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.out, self.err
        return json.loads(self.out)


@dataclass(frozen=True)
class Shell:
    """Real commands in a home, as a person types them."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"TAILRACE_HOME": str(self.home), "COLUMNS": "120"}

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "apps.cli.main", *words]

    def __call__(self, *words: str) -> Said:
        done = subprocess.run(
            self.command(*words), env=self.environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*words), env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """One home for all tests of a module: making it, and starting Spark in it, is what takes long."""
    return Shell(tmp_path_factory.mktemp("acceptance") / "home")
