"""A retention that is its own murderer: `python -m tests.contract.retention_host FOLDER DAY POINT AFTER`.

The `after`-th time it comes by `point`, the process kills itself with SIGKILL. Days go to the archive a few rows at a time.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deltalake

from bus.log import compaction, retention
from tests.unit.replay.story import Story

#: Point -> whose end it is: (module, function, what its arguments hold).
POINTS: dict[str, tuple[Any, str, str | None]] = {
    "a part is in the archive": (deltalake, "write_deltalake", None),
    "the table knows of the archive": (retention, "_note", None),
    "a day has left": (compaction, "commit", "DELETE"),
}


def deadly(real: Callable[..., Any], word: str | None, after: int) -> Callable[..., Any]:
    left = [after]

    def then_dies(*words: Any, **named: Any) -> Any:
        done = real(*words, **named)
        if word is None or word in words:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return done

    return then_dies


def main() -> None:
    folder, day, point, after = sys.argv[1:]
    module, name, word = POINTS[point]
    setattr(module, name, deadly(getattr(module, name), word, int(after)))
    small_parts()
    Story(Path(folder)).retain(int(day))


def small_parts() -> None:
    compaction.GROUP = retention.PART_ROWS = 4


if __name__ == "__main__":
    main()
