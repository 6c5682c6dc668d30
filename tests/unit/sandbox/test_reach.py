"""What a sandboxed process may reach, by the list of it and by processes that try; with Spark it is tried in tests/integration."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import workers
from workers.adapters.sandbox import landlock, reach

ROOT = Path(__file__).parents[3]

needs_landlock = pytest.mark.skipif(
    landlock.abi() < landlock.PORTS_SINCE, reason="this kernel's Landlock has no rules for ports"
)

#: Goes inside the way its first argument says, then tries to connect to the port that is its second.
TRY = """
import errno, socket, sys
from pathlib import Path
from workers.adapters.sandbox import reach
home, how, port = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
if how != "free":
    network = reach.leave_network() if how == "namespace" else how
    assert network == how, network
    reach.restrict(home, home / "scratch-1", network)
def connect(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
with socket.create_server(("127.0.0.1", 0)) as own:
    print(connect(port), connect(own.getsockname()[1]))
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for folder in ("keys", "scratch-1", "warehouse/results"):
        (tmp_path / "home" / folder).mkdir(parents=True)
    return tmp_path / "home"


def a_service() -> socket.socket:
    """On a port that the system gives to nobody by itself, as services have."""
    for port in range(20_000, 20_100):
        try:
            return socket.create_server(("127.0.0.1", port))
        except OSError:
            continue
    raise AssertionError("no port is free")


@needs_landlock
@pytest.mark.parametrize(
    ("how", "went"), [("free", "done done"), ("namespace", "ECONNREFUSED done"), ("ports", "EACCES done")]
)
def test_services_are_out_of_reach_and_oneself_is_not(home: Path, how: str, went: str) -> None:
    with a_service() as service:
        port = service.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-c", TRY, home, how, str(port)], env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert done.stdout.strip() == went, done.stderr


def test_only_what_programs_need_is_listed() -> None:
    listed = {str(path) for path in reach.program_files()}

    assert str(Path(workers.__path__[0]).resolve()) in listed
    assert not listed & {"/", "/home", "/root", "/etc", "/var", "/tmp", "/dev", "/proc", "/sys", "/run", str(ROOT)}
    # Wherever the checkout and the interpreter are, they are needed.
    own = (str(ROOT), sys.prefix, sys.base_prefix)
    others = {path for path in listed if not path.startswith(own)}
    assert not any(path.startswith(("/etc/shadow", "/etc/ssh", "/home", "/tmp")) for path in others)


@pytest.mark.parametrize("inside", ["keys", "."])
def test_a_home_inside_of_what_programs_need_is_refused(home: Path, inside: str) -> None:
    with pytest.raises(PermissionError, match="keep the home elsewhere"):
        reach.refuse_to_show([home / inside], [home.parent])


def test_what_lies_beside_is_no_matter(home: Path) -> None:
    reach.refuse_to_show([home], [home / "keys", home.parent / "hom"])
