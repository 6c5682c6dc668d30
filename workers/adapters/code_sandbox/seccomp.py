"""seccomp: the list of system calls that sandboxed code may make, as the small program the kernel asks at each of them."""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from workers.adapters.code_sandbox import syscalls

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2

_LOAD, _JUMP_EQUAL, _JUMP_ABOVE, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000

# Where the kernel puts what it asks about.
_NUMBER, _CONVENTION, _ARGUMENTS = 0, 4, 16

_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_CLONE_THREAD = 0x00010000
#: Every flag that makes a namespace of its own, or would put the child into another process's place.
_CLONE_APART = 0x7E020000 | 0x00000080 | 0x00008000
#: Is this a terminal, how much is there to read, close on exec: nothing that drives a device.
_HARMLESS_REQUESTS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
#: Which network interfaces are there; Java asks.
_INTERFACE_REQUESTS = (0x8910, 0x8912, 0x8913, 0x8915, 0x8919, 0x891B, 0x8921, 0x8927, 0x8933)


@dataclass(frozen=True)
class Checked:
    """A call that is allowed by one of its arguments: it is one of `values`, has one of the bits `some`, or none of `none`."""

    name: str
    argument: int
    values: tuple[int, ...] = ()
    some: int = 0
    none: int = 0
    refusal: int = errno.EPERM


@dataclass(frozen=True)
class Filter:
    """What may be called. `absent`: calls that answer as if the kernel had none, so that libraries take an older one."""

    allowed: frozenset[str]
    checked: tuple[Checked, ...]
    absent: tuple[str, ...] = ("clone3",)


#: One process: threads, but no other process and no other program; no socket but a pair to talk to oneself.
PYTHON = Filter(
    syscalls.COMPUTING,
    (
        Checked("clone", 0, some=_CLONE_THREAD),
        Checked("socketpair", 0, values=(_AF_UNIX,)),
        Checked("ioctl", 1, values=_HARMLESS_REQUESTS, refusal=errno.ENOTTY),
    ),
)

#: Python, Spark's virtual machine and its workers.
PYSPARK = Filter(
    syscalls.COMPUTING | syscalls.STARTING,
    (
        Checked("clone", 0, none=_CLONE_APART),
        Checked("socket", 0, values=(_AF_UNIX, _AF_INET, _AF_INET6)),
        Checked("socketpair", 0, values=(_AF_UNIX,)),
        Checked("ioctl", 1, values=_HARMLESS_REQUESTS + _INTERFACE_REQUESTS, refusal=errno.ENOTTY),
    ),
)


class SeccompError(OSError):
    """The kernel did not take the filter. The process must not go on as if it were held by it."""


def known(machine: str | None = None) -> bool:
    """Whether we have this machine's numbers."""
    return (machine or platform.machine()) in syscalls.MACHINES


def install(wanted: Filter) -> None:
    """Hold this thread and all its later children to the filter. There is no way back; `no_new_privs` must be set."""
    code = program(wanted, platform.machine())
    buffer = ctypes.create_string_buffer(code, len(code))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, header, 0, 0) != 0:
        number = ctypes.get_errno()
        raise SeccompError(number, f"prctl(PR_SET_SECCOMP): {errno.errorcode.get(number, number)}")


def program(wanted: Filter, machine: str) -> bytes:
    """The filter in the kernel's own instructions: eight bytes each."""
    convention, _ = syscalls.MACHINES[machine]
    lines: list[bytes] = [
        _line(_LOAD, _CONVENTION),
        _line(_JUMP_EQUAL, convention, 1, 0),
        _line(_RETURN, _KILL),  # another calling convention has other numbers
        _line(_LOAD, _NUMBER),
        _line(_JUMP_ABOVE, syscalls.NEWEST, 0, 1),
        _line(_RETURN, _REFUSE | errno.ENOSYS),
    ]
    for number in _numbers(wanted.absent, machine):
        lines += _answer(number, _REFUSE | errno.ENOSYS)
    for check in wanted.checked:
        for number in _numbers([check.name], machine):
            body = list(_check(check))
            lines += [_line(_JUMP_EQUAL, number, 0, len(body)), *body]
    for number in _numbers(sorted(wanted.allowed), machine):
        lines += _answer(number, _ALLOW)
    lines.append(_line(_RETURN, _REFUSE | errno.EPERM))
    return b"".join(lines)


def _numbers(names: Iterable[str], machine: str) -> Iterator[int]:
    for name in names:
        number = syscalls.number(name, machine)
        if number is not None:
            yield number


def _check(check: Checked) -> Iterator[bytes]:
    """Looks at the lower half of the argument: the kernel itself looks at no more of these."""
    yield _line(_LOAD, _ARGUMENTS + 8 * check.argument)
    for value in check.values:
        yield _line(_JUMP_EQUAL, value, 0, 1)
        yield _line(_RETURN, _ALLOW)
    if check.some:
        yield _line(_JUMP_BITS, check.some, 0, 1)
        yield _line(_RETURN, _ALLOW)
    if check.none:
        yield _line(_JUMP_BITS, check.none, 1, 0)
        yield _line(_RETURN, _ALLOW)
    yield _line(_RETURN, _REFUSE | check.refusal)


def _answer(number: int, answer: int) -> list[bytes]:
    return [_line(_JUMP_EQUAL, number, 0, 1), _line(_RETURN, answer)]


def _line(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)
