"""Starts code where nothing of this machine is: its own namespaces, file system, user and limits; and ends it with all its kin.

Three processes. The launcher stays outside, watches, and kills. The first process of the new PID namespace builds the
walls and waits: when it ends, the kernel ends everything that is left inside. The code runs in its only child.
The launcher's standard input is its lifeline: at its end, everything is killed. On standard output it says, in JSON
lines, what became of it; what the code prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from workers.adapters.code_sandbox import kernel, runner, seccomp
from workers.adapters.code_sandbox.limits import Limits
from workers.adapters.sandbox import landlock

#: Seconds between two looks at the memory of all processes.
LOOK_S = 0.2

#: Where a run by root finds a user that nobody else is: above all ranges that distributions and containers hand out.
FIRST_USER, USERS = 1_900_000_000, 65_536

#: What user and machine are called inside.
HOST = "sandbox"

_SYS_ADMIN = 1 << 21
_RESULT, _REPORT = 3, 4
#: What the code sees as `/`, as a folder of the run.
_ROOT = "root"


class Missing(Exception):
    """This machine does not give what a wall needs."""

    def __init__(self, what: str, error: OSError | str) -> None:
        self.what = what
        super().__init__(f"{what} ({error})")


@contextlib.contextmanager
def needs(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Missing(what, error) from error


def main() -> None:
    settings = json.loads(sys.argv[1])
    try:
        _say({"ended": Launcher(settings).run()})
    except Missing as missing:
        _say({"missing": str(missing)})
        raise SystemExit(1) from missing


def _say(document: dict[str, Any], to: int = 1) -> None:
    os.write(to, json.dumps(document).encode() + b"\n")


class Launcher:
    """Outside of the walls: starts, watches, kills, and says how it ended."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._limits = Limits.of(settings["limits"])
        self._first = 0

    def run(self) -> dict[str, Any]:
        if not sys.platform.startswith("linux"):
            raise Missing("Linux", sys.platform)
        if not seccomp.known():
            raise Missing("a list of this machine's system calls", platform.machine())
        folder = Path(self._settings["folder"])
        files = [os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600) for name in ("result", "report")]
        root = kernel.capabilities() & _SYS_ADMIN != 0 and os.geteuid() == 0
        if not root:
            with needs("a user namespace"):
                kernel.be_alone_in_user_namespace()
        with needs("a PID namespace"):
            kernel.unshare(kernel.NEW_PIDS)
        heard, said = os.pipe()
        user = FIRST_USER + os.getpid() % USERS if root else None
        self._first = os.fork()
        if self._first == 0:
            os.close(heard)
            Inside(self._settings, self._limits, user, files, said).begin()
        os.close(said)
        with os.fdopen(heard, "rb") as inside:
            return self._watch(inside)

    def _watch(self, inside: Any) -> dict[str, Any]:
        """Until the first process has ended, and with it all others."""
        deadline = time.monotonic() + self._limits.seconds
        poller = select.poll()
        poller.register(0, select.POLLIN | select.POLLHUP)
        poller.register(inside, select.POLLIN | select.POLLHUP)
        limit: str | None = None
        watched = self._settings["language"] == "pyspark"
        while limit is None:
            left = deadline - time.monotonic()
            ready = dict(poller.poll(max(0.0, min(left, LOOK_S if watched else left)) * 1000))
            if inside.fileno() in ready:
                break
            if 0 in ready:
                limit = "cancelled"
            elif left <= 0:
                limit = "seconds"
            elif watched and _memory_below(self._first) > self._limits.memory:
                limit = "memory"
        if limit is not None:
            os.kill(self._first, signal.SIGKILL)
        os.waitpid(self._first, 0)
        said = {} if limit else _document(inside.read())
        if "missing" in said:
            raise Missing(said["missing"], said["error"])
        return {"limit": limit, "status": said.get("status")}


def _document(text: bytes) -> dict[str, Any]:
    lines = text.splitlines()
    return dict(json.loads(lines[-1])) if lines else {}


def _memory_below(first: int) -> int:
    """Bytes that this process and all its children have in memory; what several share counts for each."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int(Path(entry.path, "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    total, todo = 0, [first]
    while todo:
        process = todo.pop()
        todo += children.get(process, [])
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()
    return total


class Inside:
    """The first process of the namespace: builds the walls, gives up everything, starts the code, waits for it."""

    def __init__(self, settings: dict[str, Any], limits: Limits, user: int | None, files: list[int], said: int) -> None:
        self._settings = settings
        self._limits = limits
        self._user = user
        self._files = files
        self._said = said
        self._spark = settings["language"] == "pyspark"

    def begin(self) -> NoReturn:
        try:
            self._close_walls()
        except Missing as missing:
            _say({"missing": missing.what, "error": str(missing.__cause__)}, self._said)
            os._exit(1)
        except BaseException as error:
            _say({"missing": "the walls could not be built", "error": f"{type(error).__name__}: {error}"}, self._said)
            os._exit(1)
        code = os.fork()
        if code == 0:
            self._become_the_code()
        while True:
            ended, status = os.wait()
            if ended == code:
                _say({"status": status}, self._said)
                os._exit(0)

    def _close_walls(self) -> None:
        kernel.die_with_parent(signal.SIGKILL)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")  # when the machine runs out of memory, this ends first
        with needs("namespaces for mounts, network, names and shared memory"):
            kernel.unshare(kernel.NEW_MOUNTS | kernel.NEW_NETWORK | kernel.NEW_IPC | kernel.NEW_NAMES)
            kernel.unshare(kernel.NEW_CGROUP)
        if self._spark:
            with needs("a loopback of its own"):
                kernel.start_loopback()
        alone = len(os.listdir("/proc/self/task")) == 1
        os.umask(0o022)
        socket.sethostname(HOST)
        with needs("a file system of its own"):
            kernel.keep_mounts_to_ourselves()
            self._build(Path(self._settings["folder"], _ROOT))
        with needs("dropping every privilege"):
            kernel.drop_capabilities(self._user)
            kernel.no_new_privileges()
        with needs("files of Python that every user may read"):
            for place in self._settings["readable"]:
                os.stat(place + "/." if os.path.isdir(place) else place)
                if not os.access(place, os.R_OK):
                    raise PermissionError(errno.EACCES, "not for others to read", place)
        kernel.die_with_parent(signal.SIGKILL)  # forgotten whenever the user changes
        kernel.hide_from_equals()
        if landlock.available():
            with needs("Landlock"):
                landlock.restrict(self._rules(), alone=alone)

    def _build(self, root: Path) -> None:
        """A root of our own with what Python needs to run, read-only; the run's input; and its scratch folder, in memory."""
        user = os.getuid() if self._user is None else self._user
        root.mkdir()
        kernel.mount_new("tmpfs", str(root), "mode=755,size=1m")
        for place in self._settings["readable"]:
            at = root / place.lstrip("/")
            if Path(place).is_dir():
                at.mkdir(parents=True, exist_ok=True)
            else:
                at.parent.mkdir(parents=True, exist_ok=True)
                at.touch()
            kernel.bind(place, str(at), kernel.READ_ONLY | kernel.NO_SUID | kernel.NO_DEVICES)
        for name, target in self._settings["links"].items():
            (root / name.lstrip("/")).symlink_to(target)
        given, work = (root / str(place).lstrip("/") for place in (runner.INPUT, runner.WORK))
        given.mkdir(parents=True)
        read_only = kernel.READ_ONLY | kernel.NO_SUID | kernel.NO_DEVICES | kernel.NO_PROGRAMS
        kernel.bind(str(Path(self._settings["folder"], "in")), str(given), read_only)
        work.mkdir()
        options = (
            f"mode=700,size={self._limits.scratch},nr_inodes=20000,uid={user},gid={user if self._user else os.getgid()}"
        )
        kernel.mount_new("tmpfs", str(work), options, programs=self._spark)
        if not (root / "tmp").exists():
            (root / "tmp").symlink_to(runner.WORK)
        (root / "dev").mkdir(exist_ok=True)
        for device in landlock.DEVICES:
            (root / device.lstrip("/")).touch()
            kernel.bind(device, str(root / device.lstrip("/")), kernel.NO_SUID | kernel.NO_PROGRAMS)
        (root / "etc").mkdir(exist_ok=True)
        for name, text in {
            "passwd": f"{HOST}:x:{user}:{user}::{runner.WORK}:/bin/false",
            "hosts": f"127.0.0.1 localhost {HOST}",
            "nsswitch.conf": "passwd: files\nhosts: files",
        }.items():
            (root / "etc" / name).write_text(f"{text}\n")
        if self._spark:
            (root / "proc").mkdir()
            kernel.mount_new("proc", str(root / "proc"), "subset=pid,hidepid=invisible")
            (root / "dev" / "fd").symlink_to("/proc/self/fd")  # the scripts that start Java ask for it
        kernel.change_root(str(root))
        kernel.set_attributes("/", kernel.READ_ONLY, below=False)

    def _rules(self) -> list[landlock.Rule]:
        read = [*self._settings["readable"], str(runner.INPUT), "/etc", *(["/proc"] if self._spark else [])]
        return [
            *(landlock.Rule(place, landlock.READ) for place in read),
            landlock.Rule(str(runner.WORK), landlock.WRITE),
            *(landlock.Rule(device, landlock.DEVICE) for device in landlock.DEVICES),
        ]

    def _become_the_code(self) -> NoReturn:
        """From here on nothing of ours is left in this process but what the code may have as well."""
        try:
            nothing = os.open("/dev/null", os.O_RDONLY)
            for fd, place in ((2, 1), (nothing, 0), (self._files[0], 100), (self._files[1], 101)):
                os.dup2(fd, place)
            for fd, place in ((100, _RESULT), (101, _REPORT)):
                os.dup2(fd, place)
            kernel.close_all_but(range(_REPORT + 1))
            self._limit()
            seccomp.install(seccomp.PYSPARK if self._spark else seccomp.PYTHON)
        except BaseException as error:
            os.write(2, f"the walls could not be closed: {error}\n".encode())
            os._exit(97)
        os.environ.pop("PYTHONPATH", None)  # what it leads to is not here
        code = 98
        try:
            code = runner.run(self._settings["language"], _RESULT, _REPORT, self._settings["engine"])
        finally:
            os._exit(code)

    def _limit(self) -> None:
        limits = self._limits
        cpu = max(1, round(limits.cpu_seconds))
        for what, value in (
            (resource.RLIMIT_CPU, cpu),
            (resource.RLIMIT_NPROC, limits.processes),
            (resource.RLIMIT_NOFILE, limits.files),
            (resource.RLIMIT_FSIZE, limits.result),
            (resource.RLIMIT_MEMLOCK, 0),
            (resource.RLIMIT_CORE, 0),
            # A virtual machine reserves far more than it uses; there the sum of what is used is watched instead.
            *([] if self._spark else [(resource.RLIMIT_AS, limits.memory)]),
        ):
            resource.setrlimit(what, (value, value + 1 if what == resource.RLIMIT_CPU else value))


if __name__ == "__main__":
    main()
