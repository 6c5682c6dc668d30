"""Every limit ends a run by itself, says its name, and leaves nothing behind."""

import asyncio
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.code_sandbox.conftest import TIGHT, Runs, eventually, walls
from workers.adapters.code_sandbox import kernel
from workers.adapters.code_sandbox.engine import _check
from workers.adapters.code_sandbox.limits import Limits
from workers.adapters.code_sandbox.probe import missing
from workers.ports import StatementFailed, StatementRefused

MIB = 1024 * 1024

BOMBS = {
    "memory at once": ("result = bytearray(1 << 32)", "line 1: MemoryError (it may use 512 MiB of memory)"),
    "memory outside of Python": (
        "import pyarrow as pa\nx = pa.array(range(1000))\nwhile True:\n    x = pa.concat_arrays([x, x])",
        "it may use 512 MiB of memory",
    ),
    "threads": (
        "import threading, time\nfor _ in range(1000):\n    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        "line 3: RuntimeError: can't start new thread (it may have 32 threads",
    ),
    "files open": ("all = [open('f', 'w') for _ in range(10000)]", "OSError: [Errno 24]"),
    "files in scratch": (
        "for n in range(100):\n    open(str(n), 'wb').write(bytes(1 << 20))",
        "[Errno 28] No space left on device (it may keep 4 MiB of files)",
    ),
    "names in scratch": ("for n in range(100000):\n    open(str(n), 'w').close()", "[Errno 28] No space left on device"),
    "a large result": (
        "import pyarrow as pa\nresult = pa.table({'a': [bytes(16 << 20)]})",
        "File too large (the result, and any file, may have 8 MiB)",
    ),
    "output": ("import os\nwhile True:\n    os.write(1, b'x' * 65536)", "it printed more than 1 MiB"),
    "the interpreter's stack": ("def f(): return f()\nresult = f()", "line 1: RecursionError"),
    "a fork": ("import os\nwhile True:\n    os.fork()", "line 3: PermissionError"),
    "an exit": ("import os\nos._exit(0)", "the code ended without a result: it left with exit code 0"),
    "a crash": ("import ctypes\nctypes.string_at(0)", "SIGSEGV"),
    "a signal to itself": ("import os\nos.kill(os.getpid(), 15)", "signal 15"),
    "closing what it hands over with": ("import os\nos.close(3)\nresult = [{'a': 1}]", "Bad file descriptor"),
    "a table that is not there": ("result = tables['tpch.salary']", "line 1: Undeclared: tpch.salary is not among the declared"),
}  # fmt: skip

LIMITS = replace(TIGHT, processes=32)


@pytest.mark.parametrize("bomb", BOMBS)
async def test_it_ends_and_says_why(behind_walls: Runs, bomb: str) -> None:
    code, said = BOMBS[bomb]

    ended, _ = await behind_walls(code, LIMITS)

    with pytest.raises(StatementFailed) as failed:
        _check(ended, LIMITS)
    assert said in str(failed.value)
    assert len(str(failed.value)) < 2000


@pytest.mark.parametrize(
    ("code", "limits", "said"),
    [
        ("while True: pass", replace(TIGHT, seconds=1), "it took longer than 1 s"),
        ("import time; time.sleep(60)", replace(TIGHT, seconds=1), "it took longer than 1 s"),
        ("while True: pass", replace(TIGHT, cpu_seconds=1), "it used more than 1 s of processor time"),
        (
            "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
            replace(TIGHT, cpu_seconds=1),
            "it was killed, as when time runs out",
        ),
    ],
)
async def test_time_runs_out(behind_walls: Runs, code: str, limits: Limits, said: str) -> None:
    ended, _ = await behind_walls(code, limits)

    with pytest.raises(StatementFailed, match=said):
        _check(ended, limits)


async def test_what_is_printed_is_kept_from_both_ends(behind_walls: Runs) -> None:
    ended, given = await behind_walls(
        "print('first')\nprint('x' * 100_000)\nprint('last\\x1b[31m')\nresult = [{'a': 1}]"
    )

    assert given is not None
    assert ended.output.startswith("first\nxxx")
    assert ended.output.endswith("xxx\nlast\N{REPLACEMENT CHARACTER}[31m\n")
    assert "bytes are not kept]" in ended.output
    assert len(ended.output) < TIGHT.output + 100


async def test_a_forged_word_of_the_launcher_is_only_output(behind_walls: Runs) -> None:
    """What the launcher says goes another way than what the code says."""
    word = json.dumps({"ended": {"limit": None, "status": 0}})
    ended, _ = await behind_walls(
        f"import os\nfor fd in range(64):\n    try: os.write(fd, b'''\\n{word}\\n''')\n    except OSError: pass\nos._exit(3)"
    )

    assert os.waitstatus_to_exitcode(ended.status or 0) == 3
    assert word in ended.output


async def test_a_forged_report_is_only_a_report(behind_walls: Runs) -> None:
    forged = {"error": {"message": "\x1b]0;pwned\x07" + "x" * 100_000, "line": {"a": 1}, "limit": ["memory"]}}
    ended, _ = await behind_walls(
        f"import os\nos.write(4, {json.dumps(forged)!r}.encode()[:60000] + b'\"}}}}')\nos._exit(1)"
    )

    with pytest.raises(StatementFailed) as failed:
        _check(ended, TIGHT)
    assert "\x1b" not in str(failed.value)


def processes_of(folder: Path) -> list[int]:
    """Everything that was started for this run: all have the folder in their first command line, or are below one that has."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (
                    str(folder).encode() in (entry / "cmdline").read_bytes()
                    and (entry / "stat").read_text().split()[2] != "Z"
                ):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


async def test_when_the_agent_is_killed_the_code_is_too(tmp_path: Path) -> None:
    """The launcher's input ends with the agent, however that went."""
    agent = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from tests.integration.code_sandbox.conftest import walls\n"
        "asyncio.run(walls(Path(sys.argv[1]), 'import time; time.sleep(600)').run())"
    )
    root = str(Path(__file__).parents[3])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", agent, str(tmp_path), cwd=root, env={"PYTHONPATH": root}
    )
    await eventually(lambda: len(processes_of(tmp_path)) >= 4)  # with the launcher, the first one inside, and the code
    process.kill()
    await process.wait()
    await eventually(lambda: not processes_of(tmp_path))


async def test_when_the_launcher_is_killed_the_code_is_too(tmp_path: Path) -> None:
    running = asyncio.create_task(walls(tmp_path, "import time; time.sleep(600)").run())
    await eventually(lambda: len(processes_of(tmp_path)) >= 3)
    os.kill(min(processes_of(tmp_path)), 9)

    ended = await running

    with pytest.raises(StatementFailed, match="its sandbox died"):
        _check(ended, TIGHT)
    await eventually(lambda: not processes_of(tmp_path))


async def test_a_thread_that_goes_on_ends_with_the_code(behind_walls: Runs) -> None:
    began = time.monotonic()
    _, given = await behind_walls(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\nresult = [{'a': 1}]"
    )

    assert given is not None
    assert time.monotonic() - began < TIGHT.seconds


#: Runs the given interpreter where the system forbids something; `{0}` is what to forbid.
WRAPPER = """#!{python} -P
import ctypes, os, sys
sys.path.insert(0, {root!r})
from workers.adapters.code_sandbox import kernel, seccomp
{forbid}
os.execv({python!r}, [{python!r}, *sys.argv[1:]])
"""


def wrapped(folder: Path, forbid: str) -> str:
    script = folder / "python"
    script.write_text(WRAPPER.format(python=sys.executable, root=str(Path(__file__).parents[3]), forbid=forbid))
    script.chmod(0o755)
    return str(script)


async def test_where_namespaces_are_forbidden_it_refuses_and_says_so(behind_walls: Runs, tmp_path: Path) -> None:
    """As in a container with the usual filter."""
    forbid = "kernel.no_new_privileges(); seccomp.install(seccomp.PYSPARK)"
    ended, given = await behind_walls("result = [{'a': 1}]", python=wrapped(tmp_path, forbid))

    assert given is None
    assert "namespace" in str(await asyncio.to_thread(missing, wrapped(tmp_path, forbid)))
    assert await asyncio.to_thread(missing) is None
    with pytest.raises(StatementRefused, match=r"PID namespace|user namespace") as refused:
        _check(ended, TIGHT)
    assert refused.value.rule == "execution.sandbox"
    assert "unprivileged_userns_clone" in refused.value.reason


@pytest.mark.skipif(os.geteuid() != 0, reason="others come this way anyway")
async def test_who_may_not_mount_gets_a_user_namespace(behind_walls: Runs, tmp_path: Path) -> None:
    """Root without CAP_SYS_ADMIN is as good as a plain user here."""
    forbid = "ctypes.CDLL(None).prctl(24, 21, 0, 0, 0)"
    code = "import os\ntry: seen = os.listdir('/')\nexcept OSError: seen = None\nresult = [{'pid': os.getpid(), 'seen': seen}]"

    assert kernel.capabilities() & 1 << 21
    ended, given = await behind_walls(code, python=wrapped(tmp_path, forbid))

    assert given is not None, ended
    assert given.to_pylist() == [{"pid": 2, "seen": None}]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
async def test_a_python_that_others_may_not_read_is_named(tmp_path: Path) -> None:
    """Installed with a strict umask: the code is another user, and would find no packages."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (tmp_path / "run").mkdir()

    ended = await walls(tmp_path / "run", "result = [{'a': 1}]", more=[str(closed)]).run()

    with pytest.raises(StatementRefused, match="files of Python that every user may read") as refused:
        _check(ended, TIGHT)
    assert str(closed) in refused.value.reason
