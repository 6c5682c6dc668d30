"""What a process inside the sandbox can reach: the lakehouse to read, its scratch folder, and nothing else, by whatever way."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from workers.adapters.sandbox import landlock
from workers.adapters.sandbox.engine import SparkSandbox
from workers.ports import StatementFailed

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not landlock.available(), reason="this kernel has no Landlock"),
]

SECRET = "the private half of ada's key"
ROOT = Path(__file__).parents[3]

#: Runs inside: tries every way given on the command line and prints how each went.
PROBE = """
import ctypes, errno, json, os, signal, socket, subprocess, sys
from pathlib import Path
from workers.adapters.sandbox import reach
home, scratch, inside, stranger = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "inside", int(sys.argv[4])
if inside:
    assert reach.leave_network() == reach.NAMESPACE
    reach.restrict(home, scratch)
    assert reach.close_sockets()
parent = os.getppid()

def outcome(attempt):
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno]
    except subprocess.CalledProcessError:
        return "failed"
    return "done"

def call(function, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), function)

def attach():
    call("ptrace", 16, stranger, None, None)
    os.waitpid(stranger, 0x40000000)
    call("ptrace", 17, stranger, None, None)

def read(path):
    return lambda: Path(path).read_bytes()

def connect(kind, address, type=socket.SOCK_STREAM):
    def attempt():
        with socket.socket(kind, type) as s:
            s.settimeout(5)
            s.connect(address)
    return attempt

def talk_to_oneself():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        server.accept()[0].close()

warehouse = home / "warehouse"
tcp, unix = int(sys.argv[7]), sys.argv[8]
attempts = {
    **{f"read {name}": read(home / name / "secret.txt") for name in ("keys", "tables", "checkpoints", "logs")},
    "list keys": lambda: os.listdir(home / "keys"),
    "list home": lambda: os.listdir(home),
    "read a file of the home": read(home / "config.yaml"),
    "read bus table": read(next(iter(sys.argv[5:]))),
    "read through a link in the lakehouse": read(warehouse / "linked" / "secret.txt"),
    "read through a link to the file": read(warehouse / "linked.txt"),
    "read through dots": read(warehouse / ".." / "keys" / "secret.txt"),
    "read through the own process": read(f"/proc/self/root{home}/keys/secret.txt"),
    "read through the parent": read(f"/proc/{parent}/root{home}/keys/secret.txt"),
    "read the parent's environment": read(f"/proc/{parent}/environ"),
    "read a stranger's memory": lambda: os.open(f"/proc/{stranger}/mem", os.O_RDONLY),
    "trace a stranger": attach,
    "signal a stranger": lambda: os.kill(stranger, 0),
    "read in a program started here": lambda: subprocess.run(
        ["cat", str(home / "keys" / "secret.txt")], check=True, capture_output=True
    ),
    "write keys": lambda: (home / "keys" / "new").write_text("x"),
    "link a key": lambda: os.link(home / "keys" / "secret.txt", warehouse / "hard.txt"),
    "make a link": lambda: os.symlink(home / "keys", warehouse / "soft"),
    "rename keys": lambda: os.rename(home / "keys", home / "warehouse" / "keys"),
    "write outside": lambda: Path(sys.argv[6], "new").write_text("x"),
    "write next to the home": lambda: (home.parent / "new").write_text("x"),
    "read next to the home": read(home.parent / "beside.txt"),
    "read outside": read("/etc/hostname"),
    "read the lakehouse": read(next((warehouse / "tpch" / "nation" / "_delta_log").iterdir())),
    "write the lakehouse": lambda: (warehouse / "new.txt").write_text("x"),
    "write scratch": lambda: (scratch / "new.txt").write_text("x"),
    "write nowhere": lambda: Path("/dev/null").write_text("x"),
    "read what the interpreter reads": read(os.__file__),
    "link in scratch": lambda: os.symlink(home / "logs" / "secret.txt", scratch / "link"),
    "read through a link in scratch": read(scratch / "link"),
    "list homes": lambda: os.listdir("/root" if os.getuid() == 0 else "/home"),
    "read passwords": read("/etc/shadow" if os.getuid() == 0 else "/etc/crontab"),
    "reach a service here": connect(socket.AF_INET, ("127.0.0.1", tcp)),
    "send a datagram": connect(socket.AF_INET, ("8.8.8.8", 53), socket.SOCK_DGRAM),
    "reach a service by its file": connect(socket.AF_UNIX, unix),
    "talk to oneself": talk_to_oneself,
    "use a privilege": lambda: os.chroot("/") if os.getuid() == 0 else os.kill(stranger, 0),
}
print(json.dumps({name: outcome(attempt) for name, attempt in attempts.items()}))
"""

ALLOWED = {
    "read through the own process": "EACCES",  # a process may be looked at only from outside
    "read the lakehouse": "done",
    "write scratch": "done",
    "read what the interpreter reads": "done",
    "link in scratch": "done",
    "talk to oneself": "done",
    "write nowhere": "done",
}


@pytest.fixture
def house(tmp_path: Path, home: Path) -> Path:
    """A small home of its own, because what is tried here must be allowed to succeed."""
    house = tmp_path / "house"
    for name in ("keys", "tables", "checkpoints", "logs", "scratch-1", "warehouse/tpch/nation/_delta_log"):
        (house / name).mkdir(parents=True)
        (house / name / "secret.txt").write_text("secret")
    (house / "config.yaml").write_text("x")
    (tmp_path / "beside.txt").write_text("x")
    (house / "warehouse" / "linked").symlink_to(house / "keys")
    (house / "warehouse" / "linked.txt").symlink_to(house / "keys" / "secret.txt")
    return house


def probe(house: Path, where: str) -> dict[str, str]:
    outside = house.parent / "outside"
    outside.mkdir(exist_ok=True)
    unix = str(house.parent / "service")
    with (
        subprocess.Popen(["sleep", "60"]) as stranger,
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as service,
    ):
        service.bind(unix)
        service.listen()
        try:
            done = subprocess.run(
                [sys.executable, "-c", PROBE, house, house / "scratch-1", where, str(stranger.pid),
                 house / "tables" / "secret.txt", outside, str(tcp.getsockname()[1]), unix],
                cwd=house, env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
            )  # fmt: skip
        finally:
            stranger.kill()
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_inside_only_the_lakehouse_is_left(house: Path) -> None:
    tried = probe(house, "inside")

    refused = {name: went for name, went in tried.items() if name not in ALLOWED}
    assert {name: tried[name] for name in ALLOWED} == ALLOWED
    assert set(refused.values()) <= {"EACCES", "EPERM", "EXDEV", "ECONNREFUSED", "ENETUNREACH", "EINVAL", "failed"}, (
        refused
    )
    for name in ("read keys", "read tables", "read through a link in the lakehouse", "read bus table"):
        assert refused[name] == "EACCES"


def test_outside_all_of_it_succeeds(house: Path) -> None:
    """Otherwise the refusals above would prove nothing."""
    tried = probe(house, "outside")

    assert {name: went for name, went in tried.items() if went != "done"} == {}


def test_keys_kept_elsewhere_through_a_link_are_out_of_reach_too(house: Path) -> None:
    elsewhere = house.parent / "vault"
    (house / "keys").rename(elsewhere)
    (house / "keys").symlink_to(elsewhere)

    tried = probe(house, "inside")

    assert tried["read keys"] == "EACCES"
    assert tried["read through a link in the lakehouse"] == "EACCES"


def test_a_lakehouse_inside_the_keys_is_refused(house: Path) -> None:
    (house / "warehouse").rename(house / "keys" / "warehouse")
    (house / "warehouse").symlink_to(house / "keys" / "warehouse")
    code = "import sys, pathlib as p; from workers.adapters.sandbox import reach; reach.restrict(*map(p.Path, sys.argv[1:]))"

    done = subprocess.run(
        [sys.executable, "-c", code, house, house], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )

    assert done.returncode != 0
    assert "lies inside" in done.stderr


#: Without the guard: what Spark itself can read when a statement does slip through.
SPARK = """
import json, sys
from pathlib import Path
from workers.adapters.sandbox import reach
home, scratch = Path(sys.argv[1]), Path(sys.argv[2])
if sys.argv[3] == "inside":
    network = reach.leave_network()
    reach.restrict(home, scratch, network)
    reach.close_sockets()
from workers.adapters.sandbox.start import start_executor
schemas = ["tpch", "results"]
settings = {"home": str(home), "scratch": str(scratch), "schemas": schemas, "cores": 1, "memory": "1g"}
executor = start_executor(settings | {"writable": ["results"], "tried_bytes": 1 << 28})
spark = executor._spark
spark.conf.set("spark.sql.runSQLOnFiles", "true")
secret = f"{home}/keys/secret.txt"
attempts = {
    "path": f"SELECT * FROM text.`{secret}`",
    "identifier": f"SELECT * FROM IDENTIFIER('text.`{secret}`')",
    "java": "SELECT java_method('java.lang.String', 'valueOf', 7)",
    "shell": f"SELECT TRANSFORM (n_name) USING 'cat {secret}' AS (line) FROM (SELECT n_name FROM tpch.nation LIMIT 1)",
    "execute immediate": f"EXECUTE IMMEDIATE 'SELECT * FROM text.`{secret}`'",
    "script": f"BEGIN SELECT * FROM text.`{secret}`; END",
    "create": f"CREATE TABLE tpch.stolen USING text LOCATION '{home}/keys'",
    "pointing": "SELECT max(n_name) FROM results.pointing",
    "bus": f"SELECT count(*) FROM delta.`{home}/tables/agent_messages`",
    "write": "INSERT INTO tpch.scribbled VALUES (9)",
    "outside": "SELECT * FROM text.`/etc/hostname`",
}

executor.warm()
said = {}
for name, sql in attempts.items():
    try:
        rows = spark.sql(sql).collect()
        if name == "create":
            rows = spark.sql("SELECT * FROM tpch.stolen").collect()
        said[name] = str(rows)
    except Exception as error:
        said[name] = "denied" if "ermission denied" in str(error) or "AccessDenied" in str(error) else str(error)[:600]
with open(sys.argv[4], "w") as answers:
    json.dump(said, answers)
gateway = spark.sparkContext._gateway
spark.stop()
gateway.shutdown()
gateway.proc.stdin.close()
gateway.proc.wait()
"""


#: What those say that read something else than the secret.
ANSWERS = {"bus": "[Row(count(1)=25)]", "pointing": "[Row(max(n_name)='VIETNAM')]", "write": "[]"}


def spark_tries(home: Path, scratch: Path, where: str) -> dict[str, Any]:
    scratch.mkdir()
    kept = ("PATH", "JAVA_HOME", "TAILRACE_JARS", *(("COVERAGE_PROCESS_CONFIG",) if where == "outside" else ()))
    environment = {name: value for name, value in os.environ.items() if name in kept}
    answers = scratch / "answers.json"
    done = subprocess.run(
        [sys.executable, "-c", SPARK, home, scratch, where, answers],
        cwd=scratch, env={**environment, "PYTHONPATH": str(ROOT), "TMPDIR": str(scratch)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(answers.read_text())


@pytest.mark.timeout(600)
def test_spark_without_the_guard_reads_no_key_inside_and_all_of_them_outside(home: Path) -> None:
    write_deltalake(str(home / "warehouse" / "tpch" / "scribbled"), pa.table({"a": [1]}))
    inside = spark_tries(home, home / "scratch-inside", "inside")
    outside = spark_tries(home, home / "scratch-outside", "outside")

    for tried in (inside, outside):
        assert tried.pop("java") == "[Row(java_method(java.lang.String, valueOf, 7)='7')]"
    shutil.rmtree(home / "warehouse" / "tpch" / "scribbled")
    assert outside.pop("outside").startswith("[Row(value=")
    read = {name for name, said in outside.items() if SECRET in said or said == ANSWERS.get(name)}
    assert read == outside.keys()
    assert not any(SECRET in said or "Row(" in said or said == "[]" for said in inside.values()), inside


@pytest.mark.asyncio(loop_scope="session")
async def test_a_table_whose_log_points_at_a_bus_table_reads_nothing(sandbox: SparkSandbox) -> None:
    """Names, plan and location are all in order here: only the kernel is left to say no."""
    with pytest.raises(StatementFailed, match="FAILED_READ_FILE"):
        await sandbox.run("SELECT max(n_name) AS name FROM results.pointing", None, "grant-1", 1)


def test_the_engine_says_how_it_is_protected(home: Path) -> None:
    assert SparkSandbox(home).protection == "landlock"
