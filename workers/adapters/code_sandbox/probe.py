"""Whether this machine can hold code at all: the walls are built once, around nothing."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from workers.adapters.code_sandbox import places, runner
from workers.adapters.code_sandbox.limits import PYTHON
from workers.adapters.code_sandbox.process import Walls


def missing(python: str = sys.executable) -> str | None:
    """What is missing, as `execution.sandbox` would say it; None when all is there."""
    readable, links = places.readable("python")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "in" / "tables").mkdir(parents=True)
        (Path(folder) / "in" / "code.py").write_text("")
        settings = {
            "language": "python",
            "folder": folder,
            "work": str(runner.WORK),
            "readable": readable,
            "links": links,
            "limits": PYTHON.as_dict(),
            "engine": {},
        }
        return asyncio.run(Walls(settings, python).run()).missing
