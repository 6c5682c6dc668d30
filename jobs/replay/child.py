"""The replaying process: gives up every right it does not need before it loads anything that could use one."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from workers.adapters.sandbox import landlock

#: Seconds between two words on how far it is.
EVERY_S = 0.1
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000

Answer = Callable[[Mapping[str, Any]], None]


def main() -> None:
    answer = _own_output()
    asked = json.loads(sys.argv[1])
    try:
        # Only what has no threads yet can be held whole; Arrow and its like start theirs as they are loaded.
        held = confine(asked["closed"], asked["writable"], asked["network"])
        answer({"report": _replay(asked, held, answer)})
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(1)  # whoever asked has gone, or goes
    except Exception as error:
        if os.environ.get("TAILRACE_DEBUG"):
            raise
        answer({"error": type(error).__name__, "said": str(error)})


def confine(closed: list[str], writable: list[str], network: bool) -> tuple[str, ...]:
    """Read everything but `closed`, write below `writable` only; for good. Returns what the kernel now keeps us from."""
    held = []
    if landlock.available():
        rules = landlock.rules_around(map(Path, closed))
        # Names may be listed everywhere: a folder that holds something closed gets no other right, and Python imports
        # nothing from a folder that it cannot list.
        rules += [landlock.Rule("/", landlock.READ_DIR)]
        rules += [landlock.Rule(folder, landlock.WRITE) for folder in writable]
        rules += [landlock.Rule(device, landlock.DEVICE) for device in landlock.DEVICES]
        landlock.restrict(rules)
        held.append("files")
    if not network and _leave_network():
        held.append("network")
    return tuple(held)


def _leave_network() -> bool:
    """Move into a network of one's own that leads nowhere. False where the system does not let us."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.unshare(_NEW_NETWORK) == 0 or libc.unshare(_NEW_USER | _NEW_NETWORK) == 0


def _replay(asked: Mapping[str, Any], held: tuple[str, ...], answer: Answer) -> dict[str, Any]:
    from config.settings import Settings
    from jobs import logging
    from jobs.bootstrap import System
    from jobs.redaction import load_redactor
    from jobs.replay.request import ReplayRequest
    from jobs.replay.run import replay

    # Whatever fails is in the report; the runner's own words on it would only be in the way.
    logging.configure(os.environ.get("TAILRACE_LOG_LEVEL", "CRITICAL"), redactor=load_redactor)
    said = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said > EVERY_S:
            said = time.monotonic()
            answer({"done": done, "total": total})

    system = System(Settings.load(home=asked["home"]))
    report = asyncio.run(replay(system, ReplayRequest.parse(asked["request"]), progress))
    report.held = held
    return report.document()


def _own_output() -> Answer:
    """Standard output for answers alone: whatever a worker prints goes to standard error."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(document: Mapping[str, Any]) -> None:
        pipe.write(json.dumps(document, ensure_ascii=False, default=str) + "\n")
        pipe.flush()

    return answer


if __name__ == "__main__":
    main()
