"""PostgreSQL and Redis of our own: in a scratch folder, on a socket in it, ended by process id. Nothing is installed here."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

#: Seconds a server gets to answer, and to leave.
PATIENCE_S = 30.0
#: Where Debian keeps the programs of each version of PostgreSQL.
DEBIAN = Path("/usr/lib/postgresql")


class Missing(RuntimeError):
    """Something another system needs is not on this machine; its rows are left out, and the message says the remedy."""


class Server:
    """A process that is there between `__enter__` and `__exit__`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process.pid

    def command(self) -> list[str]:
        """Prepares the folder as well. Raises Missing."""
        raise NotImplementedError

    @property
    def socket(self) -> Path:
        raise NotImplementedError

    #: The account the server runs under, when it must not be ours.
    account: str | None = None
    #: What asks it to leave at once, with its data in order.
    farewell = signal.SIGTERM

    def __enter__(self) -> Server:
        self.folder.mkdir(parents=True)
        with open(self.folder.parent / f"{self.folder.name}.log", "ab") as said:
            command = self.command()
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, user=self.account, start_new_session=True
            )
        deadline = time.monotonic() + PATIENCE_S
        while not _answers(self.socket):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise Missing(f"{command[0]} did not start: see {said.name}")
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(self.farewell)
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Postgres(Server):
    """With its defaults: fsync on, synchronous commits. `fsync=False`: what is left of it when power may not fail."""

    farewell = signal.SIGINT

    def __init__(self, folder: Path, fsync: bool = True) -> None:
        super().__init__(folder)
        self._fsync = fsync
        self.account = "postgres" if os.geteuid() == 0 else None

    @property
    def socket(self) -> Path:
        return self.folder / ".s.PGSQL.5432"

    @property
    def dsn(self) -> str:
        return f"host={self.folder} user=bench dbname=postgres"

    def command(self) -> list[str]:
        initdb, postgres = _postgres_program("initdb"), _postgres_program("postgres")
        if self.account is not None:
            try:
                pwd.getpwnam(self.account)
            except KeyError:
                raise Missing("PostgreSQL does not run as root, and there is no account postgres") from None
            shutil.chown(self.folder, self.account)
        data = str(self.folder / "data")
        made = subprocess.run(
            [initdb, "-D", data, "-U", "bench", "--auth=trust", "-E", "UTF8", "--no-locale", "--no-sync"],
            capture_output=True,
            text=True,
            check=False,
            user=self.account,
        )
        if made.returncode != 0:
            raise Missing(f"initdb failed: {made.stderr.strip()[-300:]}")
        settings = {"listen_addresses": "", "unix_socket_directories": str(self.folder)}
        if not self._fsync:
            settings["fsync"] = "off"
        return [postgres, "-D", data, *(f"--{name}={value}" for name, value in settings.items())]


class Redis(Server):
    """Durable as far as Redis goes: every write is in the append-only file, and synced, before it is acknowledged."""

    @property
    def socket(self) -> Path:
        return self.folder / "redis.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def command(self) -> list[str]:
        program = shutil.which("redis-server")
        if program is None:
            raise Missing("no redis-server on this machine: apt-get install redis-server, or `make bench-bus` as root")
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
        }
        return [program, *(word for name, value in settings.items() for word in (f"--{name}", value))]


def _postgres_program(name: str) -> str:
    """On the path, or where Debian keeps it: the newest."""
    found = shutil.which(name)
    if found is None:
        kept = sorted(DEBIAN.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
        found = str(kept[-1]) if kept else None
    if found is None:
        raise Missing(f"no {name} on this machine: apt-get install postgresql, or `make bench-bus` as root")
    return found


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(str(path))
        except OSError:
            return False
    return True
