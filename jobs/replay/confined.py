"""A replay in a process of its own that the kernel keeps from everything but the table `replays`, where it can."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bus.errors import MissingArchive, StoreUnavailable, UnreadableArchive
from bus.log.retention import archives
from config.files import ConfigError
from jobs.agents import UnknownAgent
from jobs.bootstrap import System
from jobs.replay.report import ReplayReport
from jobs.replay.request import CannotReplay, ReplayRequest
from jobs.replay.run import Progress
from schemas.tables import AGENT_MESSAGES, REPLAYS


class ReplayFailed(RuntimeError):
    """The replaying process ended without a report; what it said is on standard error."""


_FORESEEN = (CannotReplay, UnknownAgent, ConfigError, UnreadableArchive, MissingArchive, StoreUnavailable)
_KNOWN = {error.__name__: error for error in _FORESEEN}


def replay_confined(system: System, request: ReplayRequest, progress: Progress = lambda *_: None) -> ReplayReport:
    """As `replay` does, in a child. Raises what that raises, or ReplayFailed."""
    system.log(REPLAYS.name).create()  # the child may write into its folder, not make it
    tables = system.home.tables
    # What is in an object store, tables or an archive, is reached over the network, so then it stays.
    far = not isinstance(tables, Path) or any("://" in place for place in archives(system.log(AGENT_MESSAGES.name)))
    with tempfile.TemporaryDirectory(prefix="tailrace-replay-") as scratch:
        asked = {
            "request": request.document(),
            "home": str(system.home.root),
            "closed": [str(system.home.keys / "private")],
            "writable": [scratch, *([str(tables / REPLAYS.name)] if isinstance(tables, Path) else [])],
            "network": request.network or far,
        }
        command = [sys.executable, "-m", "jobs.replay.child", json.dumps(asked)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"TMPDIR": scratch})
        assert child.stdout is not None
        try:
            return _listen(child.stdout, progress)
        except BaseException:
            child.terminate()  # whoever leaves ends what it started
            raise
        finally:
            child.stdout.close()
            child.wait()


def _listen(lines: Iterable[bytes], progress: Progress) -> ReplayReport:
    for line in lines:
        match json.loads(line):
            case {"done": done, "total": total}:
                progress(done, total)
            case {"report": report}:
                return ReplayReport.parse(report)
            case {"error": name, "said": said}:
                raise _KNOWN.get(name, ReplayFailed)(said if name in _KNOWN else f"{name}: {said}")
    raise ReplayFailed("the replaying process ended without a report")
