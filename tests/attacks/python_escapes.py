"""Code that leaves its sandbox: tried behind the walls and in front of them; and what the first look and the limits hold."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tests.attacks.table import ATTACKS, Attack, Attempt
from tests.integration.code_sandbox.conftest import TIGHT, Runs
from tests.integration.code_sandbox.test_walls import ATTEMPTS, OF_ROOT
from workers.adapters.code_sandbox import check
from workers.adapters.code_sandbox.engine import _check
from workers.ports import StatementFailed, StatementRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CLASS = "python-escape"

#: Code -> the rule of the first look, which spares people a run that must fail, and what it is.
LOOKS = {
    "a walk over double underscores": ("code.insides", "result = ().__class__.__base__.__subclasses__()"),
    "a function's globals": ("code.insides", "result = print.__globals__"),
    "the frame of a generator": ("code.insides", "g = (x for x in [1])\nresult = g.gi_frame.f_back"),
    "the builtins by a frame": ("code.insides", "import sys\nresult = sys._getframe().f_builtins"),
    "code that is text": ("code.hidden", "result = eval('1')"),
    "eval under another name": ("code.hidden", "run = exec\nresult = run('1')"),
    "an import that is text": ("code.hidden", "result = __import__('os')"),
    "an import by a library": ("code.hidden", "import importlib\nresult = 1"),
    "an import in a function": ("code.import", "def f():\n    import ctypes\nresult = 1"),
    "an import from a package": ("code.import", "from multiprocessing import Pool\nresult = 1"),
    "a pickle, which is code": ("code.hidden", "import pickle\nresult = pickle.loads(b'')"),
    "a name in full-width letters": ("code.insides", "result = ().__cl\uff41ss__.__subcl\uff41sses__()"),
    "code too deep to look at": ("code.syntax", "result = " + "-" * 9000 + "1"),
    "a NUL in the code": ("code.syntax", "result = 1\0"),
}

#: Code -> what is said when a limit ends it.
BOMBS = {
    "a fork bomb": ("PermissionError", "import os\nwhile True:\n    os.fork()"),
    "a bomb of threads": (
        "it may have 32 threads",
        "import threading, time\nfor _ in range(1000):\n    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
    ),
    "memory at once": ("it may use 512 MiB of memory", "result = bytearray(1 << 32)"),
    "files without end": (
        "it may keep 4 MiB of files",
        "for n in range(100):\n    open(str(n), 'wb').write(bytes(1 << 20))",
    ),
    "output without end": ("it printed more than 1 MiB", "import os\nwhile True:\n    os.write(1, b'x' * 65536)"),
    "time without end": ("it took longer than 1 s", "import time\ntime.sleep(600)"),
}
LIMITS = replace(TIGHT, processes=32)


@dataclass(frozen=True)
class Place:
    """`went`: how each attempt ended, behind the walls or in front of them; `run`: more code behind them."""

    went: Callable[[], Awaitable[dict[str, str]]]
    run: Runs


def attempted(name: str) -> Callable[[Place], Awaitable[Attempt]]:
    async def attempt(place: Place) -> Attempt:
        return Attempt((await place.went())[name] == "done")

    return attempt


def looked_at(code: str) -> Callable[[Place], Awaitable[Attempt]]:
    async def attempt(place: Place) -> Attempt:
        try:
            check.check(code, "python", 10_000)
        except StatementRefused as refused:
            return Attempt(False, frozenset({refused.rule}))
        return Attempt(True)

    return attempt


def exploded(code: str, said: str) -> Callable[[Place], Awaitable[Attempt]]:
    async def attempt(place: Place) -> Attempt:
        limits = replace(LIMITS, seconds=1) if "took longer" in said else LIMITS
        ended, _ = await place.run(code, limits)
        try:
            _check(ended, limits)
        except StatementFailed as failed:
            return Attempt(said not in str(failed))
        return Attempt(True)

    return attempt


def _put(
    name: str, does: str, guard: str, rule: str, attempt: Callable[[Place], Awaitable[Attempt]], off: bool
) -> None:
    slug = re.sub(r"[^a-z]+", "-", name.lower()).strip("-")
    ATTACKS.append(Attack(f"{CLASS}/{slug}", CLASS, does, guard, rule, attempt, guard if off else None))


for _name, _code in ATTEMPTS.items():
    # What only root may try proves nothing where a plain user runs the tests.
    _put(_name, f"{_name}: `{_code}`", "walls", "", attempted(_name), _name not in OF_ROOT)
for _name, (_rule, _code) in LOOKS.items():
    _put(_name, _name, "first look, then the walls", _rule, looked_at(_code), False)
for _name, (_said, _code) in BOMBS.items():
    _put(_name, _name, "limits", "", exploded(_code, _said), False)
