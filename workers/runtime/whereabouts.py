"""Where a process runs, said so that a process on the same machine can tell whether it still does."""

from __future__ import annotations

import os
import socket
from functools import cache
from hashlib import blake2b
from pathlib import Path

_PROC = Path("/proc")


def whereabouts(pid: int | None = None) -> str:
    """`name:pid` for people, then `/machine-start`: which boot and process name space, and when the process began.

    The name of a machine is not unique and a process id is used again; boot and start together are neither.
    """
    pid = os.getpid() if pid is None else pid
    name = f"{socket.gethostname()}:{pid}"
    machine, start = _machine(), _started(pid)
    return name if machine is None or start is None else f"{name}/{machine}-{start}"


def alive(host: str) -> bool | None:
    """Whether the process behind `whereabouts` still runs; None when nobody can tell from here."""
    name, _, identity = host.partition("/")
    machine, _, start = identity.partition("-")
    pid = name.rpartition(":")[2]
    if not start or not pid.isdigit() or machine != _machine():
        return None
    return _started(int(pid)) == start


def shown(host: str) -> str:
    """The part for people."""
    return host.partition("/")[0]


@cache
def _machine() -> str | None:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text()
        return blake2b(f"{boot} {os.readlink(_PROC / 'self/ns/pid')}".encode(), digest_size=6).hexdigest()
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """When the process began, in ticks since the boot; None: there is none, or it is dead and only not buried yet."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
