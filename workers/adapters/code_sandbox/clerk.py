"""The clerk: a process beside each run that copies the tables, and afterwards takes the result and stages it.

What code leaves behind is read here and not in the agent's own process, which holds a key. The clerk can read the lakehouse
and write its scratch folder; it has no network and starts no program, and nothing else of the home exists for it.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.adapters.code_sandbox import kernel, seccomp
from workers.adapters.sandbox import protocol, reach
from workers.ports import PortError, StatementFailed

if TYPE_CHECKING:
    from workers.adapters.code_sandbox.desk import Desk


def main() -> None:
    settings = json.loads(sys.argv[1])
    os.umask(0o022)
    resource.setrlimit(resource.RLIMIT_AS, (settings["memory"], settings["memory"]))
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    try:
        desk = _desk(settings)
    except OSError as error:
        answers.write(protocol.encode({"error": "failed", "reason": f"the clerk could not be closed in: {error}"}))
        raise SystemExit(1) from error
    for line in sys.stdin.buffer:
        answers.write(protocol.encode(_answered(desk, json.loads(line))))


def _desk(settings: dict[str, Any]) -> Desk:
    """Tables and rows are touched inside the restriction alone; Delta's reader has threads, which would escape it."""
    if settings["protect"]:
        reach.restrict(Path(settings["home"]), Path(settings["scratch"]))
    if seccomp.known():  # what it reads may be made to break it: then there is nothing else it could do
        kernel.no_new_privileges()
        seccomp.install(seccomp.PYTHON)
    from workers.adapters.code_sandbox.desk import Desk

    return Desk(settings)


def _answered(desk: Desk, request: dict[str, Any]) -> dict[str, Any]:
    try:
        match request.pop("ask"):
            case "prepare":
                return {"answer": desk.prepare(**request)}
            case "take":
                return {"answer": desk.take(**request)}
            case other:
                raise StatementFailed(f"{other!r} is no request of the clerk")
    except PortError as error:
        return protocol.error_document(error)
    except Exception as error:  # the engine must hear of it
        return protocol.error_document(StatementFailed(f"{type(error).__name__}: {error}"[:500]))


if __name__ == "__main__":
    main()
