"""What a process inside the sandbox can reach: the lakehouse, and nothing else of the home, by whatever way it tries."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
import ctypes, errno, json, os, signal, subprocess, sys
from pathlib import Path
import bus
from workers.adapters.sandbox import child
home, scratch, inside, stranger = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "inside", int(sys.argv[4])
if inside:
    child.restrict(home, scratch)
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

warehouse = home / "warehouse"
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
}
print(json.dumps({name: outcome(attempt) for name, attempt in attempts.items()}))
"""

ALLOWED = {
    "read through the own process": "EACCES",  # a process may be looked at only from outside
    "read next to the home": "done",
    "read outside": "done",
    "read the lakehouse": "done",
    "write the lakehouse": "done",
    "write scratch": "done",
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
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            done = subprocess.run(
                [sys.executable, "-c", PROBE, house, house / "scratch-1", where, str(stranger.pid),
                 house / "tables" / "secret.txt", outside],
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
    assert set(refused.values()) <= {"EACCES", "EPERM", "EXDEV", "failed"}, refused
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
    code = "import sys, pathlib as p; from workers.adapters.sandbox import child; child.restrict(*map(p.Path, sys.argv[1:]))"

    done = subprocess.run(
        [sys.executable, "-c", code, house, house], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )

    assert done.returncode != 0
    assert "lies inside" in done.stderr


#: Without the guard: what Spark itself can read when a statement does slip through.
SPARK = """
import json, sys
from pathlib import Path
import bus
from workers.adapters.sandbox import child
home, scratch = Path(sys.argv[1]), Path(sys.argv[2])
if sys.argv[3] == "inside":
    child.restrict(home, scratch)
from deltalake import DeltaTable, write_deltalake
from workers.adapters.sandbox.start import start_executor
schemas = ["tpch", "results"]
executor = start_executor({"home": str(home), "scratch": str(scratch), "schemas": schemas, "cores": 1, "memory": "1g"})
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
}
executor.warm()
dry = executor.dry_run("SELECT n_name FROM tpch.nation ORDER BY 1", "results.unprotected")
done = executor.run("SELECT n_name FROM tpch.nation ORDER BY 1", "results.unprotected", sys.argv[3], 1, dry["digest"], lambda: None)
assert done["rows"] == [["ALGERIA"]]
# What was approved is read, although the table has moved on since it was analysed.
prepared = executor._prepare("SELECT count(*) AS n FROM results.unprotected", None)
saved = str(home / "warehouse" / "results" / "unprotected")
write_deltalake(saved, DeltaTable(saved).to_pyarrow_table(), mode="append")
assert prepared.frame.collect()[0][0] == 25
assert spark.sql("SELECT count(*) FROM results.unprotected").collect()[0][0] == 50
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
ANSWERS = {"bus": "[Row(count(1)=25)]", "pointing": "[Row(max(n_name)='VIETNAM')]"}


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
    inside = spark_tries(home, home / "scratch-inside", "inside")
    outside = spark_tries(home, home / "scratch-outside", "outside")

    for tried in (inside, outside):
        assert tried.pop("java") == "[Row(java_method(java.lang.String, valueOf, 7)='7')]"
    read = {name for name, said in outside.items() if SECRET in said or said == ANSWERS.get(name)}
    assert read == outside.keys()
    assert not any(SECRET in said or "Row(" in said for said in inside.values()), inside


@pytest.mark.asyncio(loop_scope="session")
async def test_a_table_whose_log_points_at_a_bus_table_reads_nothing(sandbox: SparkSandbox) -> None:
    """Names, plan and location are all in order here: only the kernel is left to say no."""
    with pytest.raises(StatementFailed, match="FAILED_READ_FILE"):
        await sandbox.run("SELECT max(n_name) AS name FROM results.pointing", None, "grant-1", 1)


def test_the_engine_says_how_it_is_protected(home: Path) -> None:
    assert SparkSandbox(home).protection == "landlock"
