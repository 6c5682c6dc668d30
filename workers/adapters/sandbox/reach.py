"""What a process in the sandbox can reach: the files it needs to run, the lakehouse, its scratch folder, and no network.

What holds where:

- **Linux with Landlock** (5.13 and later): an allow-list. Readable are the interpreter, installed packages, our own packages,
  Java, the JARs, system libraries and programs, and the schemas of the lakehouse; writable is the scratch folder alone. All other
  files are closed: homes of people, other projects, `/etc` but for names of users and hosts, and every other process.
- **Linux with user namespaces**: the network is one of its own, with nothing but its loopback, over which Python talks with
  Java; all privileges are gone. Where seccomp knows the machine, other kinds of sockets are closed too, also those that are files.
- **Without namespaces** (many containers), with Landlock 4 (6.7): TCP to ports that services use is closed, the ports that the
  system hands out to programs stay open, and so does UDP. It is said in the log.
- **Elsewhere** only the check of each statement's plan protects, and the log warns.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

# Imported before the restriction: afterwards the folder above these may not be listed, so no other package is found in it.
import bus
import schemas
import workers
from workers.adapters.code_sandbox import kernel, places, seccomp
from workers.adapters.sandbox import landlock, mounts

#: What of `/etc` programs ask for to say who and where they are.
_ETC = ("passwd", "group", "hosts", "host.conf", "nsswitch.conf", "localtime", "timezone", "ld.so.cache", "os-release")

#: How many processors and how much memory there is; Java asks.
_SYSTEM = ("/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/fs/cgroup", "/sys/kernel/mm")

_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")

#: Of Java's own needs: sockets to talk with Python, and none that leads to a service by a file.
_AF_INET, _AF_INET6 = 2, 10

NAMESPACE, PORTS, OPEN = "namespace", "ports", "open"


def leave_network() -> str:
    """Into a network of one's own, where the system lets us; must be the process's only thread. Returns what holds now."""
    if sys.platform != "linux":
        return OPEN
    # Tried by another process first: who fails half-way is left without a user, or without a loopback.
    if os.waitstatus_to_exitcode(os.waitpid(_tried(), 0)[1]) != 0:
        return PORTS if landlock.abi() >= landlock.PORTS_SINCE else OPEN
    _leave()
    return NAMESPACE


def _tried() -> int:
    process = os.fork()
    if process == 0:
        try:
            _leave()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return process


def _leave() -> None:
    kernel.be_alone_in_user_namespace()
    kernel.unshare(kernel.NEW_NETWORK)
    kernel.start_loopback()
    kernel.drop_capabilities(None)


def restrict(home: Path, scratch: Path, network: str = NAMESPACE) -> int:
    """Hold this process and its children to what the module says; returns Landlock's version. Raises OSError.

    What the home's folders really are counts: keys that are kept elsewhere through a link, or that a second mount shows, are
    out of reach as well.
    """
    warehouse = Path(os.path.realpath(home / "warehouse"))
    closed = [home, *(entry for entry in home.iterdir() if entry.name != "warehouse")]
    for path in closed[1:]:
        if warehouse.is_relative_to(os.path.realpath(path)):
            raise PermissionError(f"{warehouse} lies inside {path}")
    closed = [Path(os.path.realpath(path)) for path in closed if path != scratch]
    readable = [*program_files(), *(schema for schema in warehouse.iterdir() if not schema.name.startswith("."))]
    refuse_to_show([*closed, *mounts.aliases(closed, mounts.mounts())], readable)
    rules = [landlock.Rule(str(path), landlock.READ) for path in readable]
    rules += landlock.kernel_facts()
    rules += [landlock.Rule(device, landlock.DEVICE) for device in landlock.DEVICES]
    # A stage shows a table's files by links; whoever reads the scratch folder from outside follows none.
    rules += [landlock.Rule(str(scratch), landlock.WRITE | landlock.MAKE_SYM)]
    return landlock.restrict(rules, ports=[0, *_given_out()] if network == PORTS else None)


def close_sockets() -> bool:
    """Only sockets of the internet's kind, which lead nowhere, and only calls that Java needs; False where it is not known how."""
    if sys.platform != "linux" or not seccomp.known(platform.machine()):
        return False
    checked = (
        dataclasses.replace(check, values=(_AF_INET, _AF_INET6)) if check.name == "socket" else check
        for check in seccomp.PYSPARK.checked
    )
    seccomp.install(dataclasses.replace(seccomp.PYSPARK, checked=tuple(checked)))
    return True


def program_files() -> Sequence[Path]:
    """Links are followed here, since the kernel's rules hold for what they lead to."""
    wanted = [*places.readable("pyspark")[0], *_SYSTEM, *(f"/etc/{name}" for name in _ETC)]
    wanted += [package.__path__[0] for package in (bus, schemas, workers)]
    return sorted({Path(os.path.realpath(path)) for path in wanted if os.path.exists(path)})


def refuse_to_show(closed: Iterable[Path], readable: Iterable[Path]) -> None:
    for path in readable:
        for inside in closed:
            if inside.is_relative_to(path):
                raise PermissionError(
                    f"{inside} lies inside {path}, which the engine has to read: keep the home elsewhere"
                )


def _given_out() -> Iterator[int]:
    """The ports that the system gives to programs which do not ask for one; services have others."""
    first, last = map(int, _PORTS.read_text().split())
    return iter(range(first, last + 1))
