"""What of Linux Python has no words for: namespaces, mounts, capabilities, and the loopback of a network of one's own."""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import struct
from collections.abc import Iterable
from fcntl import ioctl
from pathlib import Path

from workers.adapters.code_sandbox import syscalls

NEW_MOUNTS, NEW_CGROUP, NEW_NAMES, NEW_IPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
NEW_USER, NEW_PIDS, NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_DETACH = 2
_MOUNT_SETATTR, _AT_RECURSIVE = 442, 0x8000
READ_ONLY, NO_SUID, NO_DEVICES, NO_PROGRAMS = 1, 2, 4, 8

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP = 1, 4, 24
_PR_SET_SECUREBITS, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 28, 38, 47
_CLEAR_ALL = 4
_CAPABILITIES_VERSION = 0x20080522
#: Being root gives nothing, and this cannot be changed any more.
_ROOT_IS_NOBODY = 0b11100011

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def unshare(flags: int) -> None:
    _checked(_libc().unshare(flags), "unshare")


def be_alone_in_user_namespace() -> None:
    """A user namespace in which this process may do all of this, with no other user than its own."""
    user, group = os.getuid(), os.getgid()
    unshare(NEW_USER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def keep_mounts_to_ourselves() -> None:
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE, None)


def mount_new(kind: str, place: str, options: str, *, programs: bool = False) -> None:
    """A file system of its own: `tmpfs` or `proc`."""
    _mount(kind, place, kind, _MS_NOSUID | _MS_NODEV | (0 if programs else _MS_NOEXEC), options)


def bind(source: str, place: str, attributes: int) -> None:
    """Show `source` at `place`, with all that is mounted below it, held to `attributes`."""
    _mount(source, place, None, _MS_BIND | _MS_REC, None)
    set_attributes(place, attributes)


def set_attributes(place: str, attributes: int, *, below: bool = True) -> None:
    """For this mount and all `below` it; needs Linux 5.12."""
    wanted = ctypes.create_string_buffer(struct.pack("QQQQ", attributes, 0, 0, 0))
    answer = _libc().syscall(
        _MOUNT_SETATTR, -100, place.encode(), ctypes.c_uint(_AT_RECURSIVE if below else 0), wanted, ctypes.c_size_t(32)
    )
    _checked(answer, f"mount_setattr {place}")


def change_root(place: str) -> None:
    """Make `place` all there is; what was there before cannot be reached any more."""
    os.chdir(place)
    pivot_root = syscalls.number("pivot_root", platform.machine())
    _checked(_libc().syscall(pivot_root, b".", b"."), "pivot_root")
    _checked(_libc().umount2(b".", _DETACH), "umount2")
    os.chdir("/")


def start_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = bytearray(struct.pack("16sh22x", b"lo", 0))
        ioctl(any_socket, _SIOCGIFFLAGS, request)
        flags = struct.unpack_from("16sh", request)[1] | _IFF_UP
        ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags))


def die_with_parent(signal: int) -> None:
    _checked(_libc().prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def hide_from_equals() -> None:
    """Other processes of this user can neither trace this one nor look into it."""
    _checked(_libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl(PR_SET_DUMPABLE)")


def no_new_privileges() -> None:
    _checked(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")


def drop_capabilities(become: int | None) -> None:
    """Give up every privilege for good; `become`: the user and group to be from here on."""
    libc = _libc()
    capability = 0
    while libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    libc.prctl(_PR_SET_SECUREBITS, _ROOT_IS_NOBODY, 0, 0, 0)
    if become is not None:
        os.setgroups([])
        os.setresgid(become, become, become)
        os.setresuid(become, become, become)
    libc.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITIES_VERSION, 0))
    none = ctypes.create_string_buffer(24)
    _checked(libc.capset(header, none), "capset")


def capabilities() -> int:
    """Those this process has; 0 where the system does not say."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def close_all_but(kept: Iterable[int]) -> None:
    low = 0
    for fd in sorted(kept):
        if low < fd:  # an empty range closes everything
            os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def _mount(source: str | None, place: str, kind: str | None, flags: int, options: str | None) -> None:
    def text(value: str | None) -> bytes | None:
        return None if value is None else value.encode()

    answer = _libc().mount(text(source), text(place), text(kind), ctypes.c_ulong(flags), text(options))
    _checked(answer, f"mount {place}")


def _checked(answer: int, what: str) -> None:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
