"""Landlock: what this process and its children may touch in the file system, and which ports, decided once and never widened."""

from __future__ import annotations

import ctypes
import os
import stat
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# The numbers are the same on every architecture since Linux 5.13.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH, _RULE_NET_PORT = 1, 2
_PR_SET_NO_NEW_PRIVS = 38

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE = 1 << 4, 1 << 5
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (1 << bit for bit in range(6, 13))
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_BIND_TCP, _CONNECT_TCP = 1, 2
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1, 2

#: What a kernel must be told that we handle, by the ABI that brought it; a right nobody handles is not restricted at all.
_SINCE = {1: (1 << 13) - 1, 2: REFER, 3: TRUNCATE, 5: IOCTL_DEV}
#: The ABI that brought rules for TCP ports.
PORTS_SINCE = 4
#: Rights that make sense on a file that is not a folder; the kernel refuses a rule with others.
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV

READ = EXECUTE | READ_FILE | READ_DIR
#: No links, devices or sockets: a link inside the lakehouse is how a later reader is led elsewhere.
WRITE = READ_FILE | READ_DIR | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
DEVICE = READ_FILE | WRITE_FILE

#: The only devices a JVM needs. Never the folder: as root a raw disk would give every file away.
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
#: Kernel memory and keys, readable by root.
_KERNEL_SECRETS = frozenset(
    {"kcore", "kmem", "kmsg", "keys", "key-users", "kallsyms", "vmcore", "kpagecount", "kpageflags"}
)


@dataclass(frozen=True)
class Rule:
    """`rights` below `path` (a folder) or on it (a file)."""

    path: str
    rights: int


class LandlockError(OSError):
    """The kernel refused a step that it said it supports. The process must not go on as if it were restricted."""


class _RulesetAttr(ctypes.Structure):
    _fields_ = [("handled_fs", ctypes.c_uint64), ("handled_net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


class _NetPortAttr(ctypes.Structure):
    _fields_ = [("allowed", ctypes.c_uint64), ("port", ctypes.c_uint64)]


def abi() -> int:
    """The kernel's Landlock version, 0 where there is none."""
    if sys.platform != "linux":
        return 0
    answer = _libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_CREATE_RULESET_VERSION))
    return max(0, int(answer))


def available() -> bool:
    return abi() >= 1


def rules_around(denied: Iterable[Path], readable_root: Path = Path("/")) -> list[Rule]:
    """Read rights for everything below `readable_root` except `denied`, the folders above them, raw devices and kernel secrets.

    A rule holds for all that lies below its path, so a folder with something denied inside can get none: its other
    entries get theirs one by one. Links get none either: what they point at has its own rule, or must not have any.
    """
    closed = {Path(os.path.realpath(path)) for path in denied}
    return list(_readable(Path(os.path.realpath(readable_root)), closed))


def _readable(folder: Path, closed: set[Path]) -> Iterator[Rule]:
    if folder in closed or folder == Path("/dev"):
        return
    if folder == Path("/proc"):
        yield from kernel_facts()
        return
    if folder != Path("/") and not any(path.is_relative_to(folder) for path in closed):
        yield Rule(str(folder), READ)
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.is_symlink():
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _readable(Path(entry.path), closed)
        elif Path(entry.path) not in closed:
            yield Rule(entry.path, READ)


def kernel_facts() -> Iterator[Rule]:
    """`/proc` without the processes: another one's environment or memory is nobody's business."""
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() and not entry.is_symlink() and entry.name not in _KERNEL_SECRETS:
            yield Rule(entry.path, READ)


def restrict(rules: Iterable[Rule], *, alone: bool = False, ports: Iterable[int] | None = None) -> int:
    """Hold this process and all its later children to `rules`; returns the ABI used. There is no way back.

    Only the calling thread would be held, so it refuses when there are others; `alone`: the caller has looked already,
    for it has no `/proc` any more.
    """
    version = abi()
    if version < 1:
        raise LandlockError("this kernel has no Landlock")
    if threading.active_count() > 1 or (not alone and len(os.listdir("/proc/self/task")) > 1):
        raise LandlockError("other threads run already, and would stay unrestricted")
    handled = handled_rights(version)
    handled_net = _BIND_TCP | _CONNECT_TCP if ports is not None and version >= PORTS_SINCE else 0
    attributes = _RulesetAttr(handled, handled_net, _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    libc = _libc()
    ruleset = _checked(
        libc.syscall(_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0))
    )
    try:
        for rule in rules:
            _add(libc, ruleset, rule, handled)
        for port in ports or () if handled_net else ():
            allowed = ctypes.byref(_NetPortAttr(handled_net, port))
            _checked(
                libc.syscall(
                    _ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_RULE_NET_PORT), allowed, ctypes.c_uint32(0)
                )
            )
        _checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)))
    finally:
        os.close(ruleset)
    return version


def handled_rights(version: int) -> int:
    """Every right that a kernel of this ABI knows."""
    handled = 0
    for since, rights in _SINCE.items():
        if version >= since:
            handled |= rights
    return handled


def _add(libc: ctypes.CDLL, ruleset: int, rule: Rule, handled: int) -> None:
    try:
        fd = os.open(rule.path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return  # gone, or not ours to open: nothing to allow
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISLNK(mode):
            return
        rights = rule.rights & handled & (~0 if stat.S_ISDIR(mode) else _OF_FILES)
        beneath = _PathBeneathAttr(rights, fd)
        _checked(
            libc.syscall(
                _ADD_RULE,
                ctypes.c_int(ruleset),
                ctypes.c_int(_RULE_PATH_BENEATH),
                ctypes.byref(beneath),
                ctypes.c_uint32(0),
            ),
            rule.path,
        )
    finally:
        os.close(fd)


def _checked(answer: int, about: str = "") -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise LandlockError(number, os.strerror(number), about or None)
    return answer


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
