"""What code can reach: everything is tried once behind the walls, and once in front of them, where it has to succeed."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.code_sandbox.conftest import SECRET, Runs

#: Each attempt is a line of Python; `W` is the world outside. What raises has failed; what does not has succeeded.
FILES = {
    "read a key": "open(W['home'] + '/keys/secret.txt').read()",
    "read a bus table": "open(W['home'] + '/tables/secret.txt').read()",
    "read a log": "open(W['home'] + '/logs/secret.txt').read()",
    "list the home": "os.listdir(W['home'])",
    "list the lakehouse": "os.listdir(W['home'] + '/warehouse/tpch')",
    "read a table that was not declared": "os.listdir(W['home'] + '/warehouse/tpch/salary/_delta_log')",
    "write a table": "open(W['home'] + '/warehouse/tpch/nation/x', 'w')",
    "read a file of the system": "open('/etc/hostname').read()",
    "read the users": "open('/etc/shadow').read()",
    "read a home folder": "os.listdir(os.path.expanduser('~root'))",
    "list the root": "os.listdir('/')",
    "list the devices": "os.listdir('/dev')",
    "read through dots": "open(os.path.relpath(W['home'], os.getcwd()) + '/keys/secret.txt').read()",
    "write outside": "open(W['folder'] + '/new', 'w')",
    "write into the interpreter": "open(sys.prefix + '/new.py', 'w').close() or os.unlink(sys.prefix + '/new.py')",
    "make a device": "os.mknod('disk' + N, 0o600 | stat.S_IFBLK, os.makedev(254, 0))",
    "make a link out": "os.symlink(W['home'] + '/keys', 'l' + N)",
    "follow a link it makes": "(os.symlink(W['home'] + '/keys', 'm' + N), os.listdir('m' + N))",
    "make a hard link": "os.link(W['home'] + '/keys/secret.txt', W['folder'] + '/hard' + N)",
    "go up by a descriptor": "os.open('..', os.O_RDONLY, dir_fd=os.open(W['home'], os.O_RDONLY))",
    "load a library of its own": "ctypes.CDLL(library_of_its_own())",
}
PROCESSES = {
    "read its parent's environment": "open('/proc/' + W['agent'] + '/environ').read()",
    "read its own environment by /proc": "open('/proc/self/environ').read()",
    "look at the first process": "os.listdir('/proc/1')",
    "go through a process's root": "os.listdir('/proc/self/root' + W['home'] + '/keys')",
    "signal the agent": "os.kill(int(W['agent']), 0)",
    "signal a stranger": "os.kill(int(W['stranger']), 0)",
    "signal the parent's group": "os.killpg(os.getpgid(int(W['agent'])), 0)",
    "trace a stranger": "trace(int(W['stranger']))",
    "read a stranger's memory": "os.open('/proc/' + W['stranger'] + '/mem', os.O_RDONLY)",
    "use another's files": "os.close(libc('syscall', 438, libc('syscall', 434, int(W['stranger']), 0), 0, 0))",
    "start a program": "subprocess.run(['/bin/true'], check=True)",
    "start a shell": "1 / (os.system('true') == 0)",
    "start a program the other way": "os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)",
    "fork": "os.fork() or os._exit(0)",
    "start a pool": "multiprocessing.get_context('fork').Process(target=int).start()",
}
NETWORK = {
    "connect over the loopback": "socket.create_connection(('127.0.0.1', int(W['port'])), 5).close()",
    "make an Internet socket": "socket.socket().close()",
    "make a raw socket": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()",
    "make a packet socket": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()",
    "talk to the kernel by netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()",
    "connect to a socket in a folder": "socket.socket(socket.AF_UNIX).connect(W['folder'] + '/s')",
    "connect to an abstract socket": "socket.socket(socket.AF_UNIX).connect('\\0' + W['abstract'])",
    "listen": "socket.create_server(('127.0.0.1', 0)).close()",
}
KERNEL = {
    "be somebody else": "os.setgroups([])",
    "memory without a name": "os.close(os.memfd_create('x'))",
    "shared memory": "libc('shmget', 0, 4096, 0o1600)",
    "a ring of requests": "os.close(libc('syscall', 425, 4, ctypes.create_string_buffer(256)))",
    "work as another kind of system": "libc('personality', 0x0040000)",
    "a lower priority": "libc('setpriority', 0, 0, 1)",
    "make a user namespace": "libc('unshare', 0x10000000)",
    "make a network namespace": "libc('unshare', 0x40000000)",
    "mount": "(libc('unshare', 0x20000), libc('mount', b'none', W['folder'].encode(), b'tmpfs', 0, None))",
}
PYTHON_ITSELF = {
    "find a class by its subclasses": "next(c for c in object.__subclasses__() if c.__name__ == 'Popen')(['/bin/true']).wait()",
    "find a class by any object": "next(c for c in ().__class__.__base__.__subclasses__() if c.__name__ == 'Popen')('true').wait()",
    "import what is not there": "__import__('bus.keys')",
    "import by the frame": "sys._getframe().f_builtins['__import__']('subprocess').run(['/bin/true'], check=True)",
    "go through a function's globals": "os.walk.__globals__['system']('true') == 0 or 1 / 0",
}
BY_NUMBER = {
    "fork by number": "libc('syscall', 57) or os._exit(0)",
    "clone by number": "libc('syscall', 56, 17, 0, 0, 0, 0) or os._exit(0)",
    "faults of its own": "os.close(libc('syscall', 323, 1))",
    "the kernel's keys": "libc('syscall', 250, 0, -3, 1)",
}
ATTEMPTS = {
    **FILES, **PROCESSES, **NETWORK, **(BY_NUMBER if platform.machine() == "x86_64" else {}), **PYTHON_ITSELF, **KERNEL,
}  # fmt: skip

#: What a plain user may not do anyway.
OF_ROOT = {
    "read the users", "read a home folder", "make a device", "make a raw socket", "make a packet socket", "be somebody else",
    "make a user namespace", "make a network namespace", "mount", "trace a stranger", "use another's files",
    "read a stranger's memory", "faults of its own", "a ring of requests",
}  # fmt: skip

PROBE = """
import ctypes, json, multiprocessing, os, shutil, socket, stat, subprocess, sys
W = json.loads({world!r})
N = {number!r}

def libc(function, *arguments):
    library = ctypes.CDLL(None, use_errno=True)
    answer = getattr(library, function)(*arguments)
    if answer < 0:
        raise OSError(ctypes.get_errno(), function)
    return answer

def library_of_its_own():
    import _ctypes
    return shutil.copy(_ctypes.__file__, os.getcwd() + '/own.so')

def trace(stranger):
    libc('ptrace', 16, stranger, 0, 0)
    os.waitpid(stranger, 0x40000000)
    libc('ptrace', 17, stranger, 0, 0)

def went(attempt):
    try:
        eval(attempt)
    except BaseException as error:
        return type(error).__name__ + ": " + str(error)
    return "done"

outcomes = {{name: went(attempt) for name, attempt in {attempts!r}.items()}}
"""


def probe(world: dict[str, str], number: str) -> str:
    return PROBE.format(world=json.dumps(world), number=number, attempts=ATTEMPTS)


@pytest.fixture(scope="module")
def tried() -> dict[str, dict[str, str]]:
    """How each went, by where it was tried; filled by the first test that asks."""
    return {}


@pytest.fixture
async def inside(tried: dict[str, dict[str, str]], behind_walls: Runs, world: dict[str, str]) -> dict[str, str]:
    if "inside" not in tried:
        ended, given = await behind_walls(
            probe(world, "1") + "\nresult = [{'name': n, 'went': w} for n, w in outcomes.items()]"
        )
        assert given is not None, ended
        tried["inside"] = {row["name"]: row["went"] for row in given.to_pylist()}
    return tried["inside"]


@pytest.fixture
def outside(tried: dict[str, dict[str, str]], world: dict[str, str], code_home: Path, tmp_path: Path) -> dict[str, str]:
    if "outside" not in tried:
        code = probe(world, "2") + "\nprint(json.dumps(outcomes))"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
            env={"PYTHONPATH": str(Path(__file__).parents[3])},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        tried["outside"] = json.loads(done.stdout.splitlines()[-1])
    return tried["outside"]


@pytest.mark.parametrize("attempt", ATTEMPTS)
async def test_behind_the_walls_it_fails(inside: dict[str, str], attempt: str) -> None:
    assert inside[attempt] != "done"


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_in_front_of_them_it_succeeds(outside: dict[str, str], attempt: str) -> None:
    """Otherwise the failure above would prove nothing."""
    if attempt in OF_ROOT and os.geteuid() != 0:
        pytest.skip("a plain user may not do this anyway")
    assert outside[attempt] == "done"


async def test_it_is_nobody_and_alone(behind_walls: Runs) -> None:
    _, given = await behind_walls(
        "import os\n"
        "def there(fd):\n"
        "    try: os.fstat(fd)\n"
        "    except OSError: return False\n"
        "    return True\n"
        "result = [{'pid': os.getpid(), 'groups': os.getgroups(), 'open': [f for f in range(200) if there(f)],"
        " 'secrets': [n for n in os.environ if 'KEY' in n or 'TOKEN' in n or 'TAILRACE' in n or 'PYTHONPATH' in n]}]"
    )

    assert given is not None
    assert given.to_pylist() == [{"pid": 2, "groups": [], "open": [0, 1, 2, 3, 4], "secrets": []}]


async def test_nothing_of_the_secret_comes_out_by_any_name(inside: dict[str, str]) -> None:
    assert SECRET not in json.dumps(inside)
