"""A bundle is whole: another process, which cannot import Tailrace, checks it, and a person can read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from jobs.audit.anchoring import anchor_log
from jobs.audit.export import CannotExport, export
from jobs.bootstrap import System
from schemas.payloads import Ask
from tests.unit.audit.conftest import copy_of
from tests.unit.audit.recorded import open_home

ROOT = Path(__file__).parents[3]
#: The packages of this repository, which a verifier must not need.
OURS = ("apps", "bus", "config", "jobs", "schemas", "tailrace", "workers")
ALONE = f"""
import importlib.abc, runpy, sys

class Nothing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {(*OURS, "pyarrow", "pydantic", "duckdb")!r}:
            raise ImportError(f"{{name}} is not here")

sys.meta_path.insert(0, Nothing())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def check(bundle: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """The verifier of a bundle, by a Python that knows deltalake and cryptography, and nothing of ours."""
    command = [sys.executable, "-I", "-c", ALONE, str(bundle / "verifier.py"), str(bundle), "--json", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd="/", env={"PATH": os.environ["PATH"]}
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def home_of(recorded_home: Path, tmp_path_factory: pytest.TempPathFactory) -> System:
    """Anchored, with a question that a browser could take for more than text."""
    system = copy_of(recorded_home, tmp_path_factory.mktemp("exported") / "home")
    with system.client("ana") as client:
        client.send("RAGAgent", Ask(question="<script>alert(1)</script> & <img src=x onerror=alert(2)>"))
    anchor_log(system)
    return system


@pytest.fixture(scope="module")
def bundle(home_of: System, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(home_of, tmp_path_factory.mktemp("bundle") / "b").folder


def test_a_bundle_is_checked_without_us(bundle: Path) -> None:
    code, said = check(bundle)
    assert (code, said["ok"], said["problems"]) == (0, True, [])
    assert said["checked"]["anchors"] == 2
    assert said["checked"]["executions"] == 1


def test_a_bundle_whose_rows_were_altered_does_not_hold(home_of: System, tmp_path: Path) -> None:
    bundle = export(home_of, tmp_path / "b").folder
    rows = DeltaTable(str(bundle / "rows/agent_messages")).to_pyarrow_table().to_pylist()
    row = next(row for row in rows if row["kind"] == "Decide")
    row["content"] = row["content"].replace("approve", "reject")
    table = DeltaTable(str(bundle / "rows/agent_messages")).to_pyarrow_table()
    write_deltalake(str(bundle / "rows/agent_messages"), type(table).from_pylist(rows, table.schema), mode="overwrite")
    code, said = check(bundle)
    found = {(p["rule"], p["where"].partition(" Decide")[0]) for p in said["problems"]}
    assert code == 1
    assert ("signature.invalid", f"({row['log_version']}, {row['seq']})") in found
    assert ("anchor.block", f"version {row['log_version']}") in found


def test_a_part_of_the_log_is_held_against_anchors_of_all_of_it(home_of: System, tmp_path: Path) -> None:
    done = export(home_of, tmp_path / "b", first=12)
    code, said = check(done.folder)
    assert (code, said["problems"]) == (0, [])
    before = json.loads((done.folder / "bundle.json").read_text())
    before["before"]["peaks"][0] = "00" * 32
    (done.folder / "bundle.json").write_text(json.dumps(before))
    assert {p["rule"] for p in check(done.folder)[1]["problems"]} == {"anchor.rows"}


def test_the_beginning_of_a_log_is_a_bundle_too(home_of: System, tmp_path: Path) -> None:
    done = export(home_of, tmp_path / "b", last=12)
    code, said = check(done.folder)
    assert (code, said["problems"], said["versions"]) == (0, [], [1, 12])


def test_another_root_key_than_the_known_one_is_named(bundle: Path) -> None:
    code, said = check(bundle, "--root-key", "0" * 64)
    assert (code, [p["rule"] for p in said["problems"]]) == (1, ["keys.root"])
    assert check(bundle, "--root-key", said["root_key"])[0] == 0


def test_a_bundle_holds_no_private_key(bundle: Path) -> None:
    names = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()}
    assert {name for name in names if name.startswith("keys")} == {"keys/keyring.json", "keys/root.pub"}
    assert not any(b"PRIVATE" in path.read_bytes() for path in bundle.rglob("*") if path.is_file())


def test_the_page_shows_who_and_what_and_runs_nothing(bundle: Path) -> None:
    page = (bundle / "report.html").read_text()
    for words in ("The log held", "asked by", "ada", "eli", "SELECT c_name FROM tpch.customer", "rbac."):
        assert words in page, words
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert "<img" not in page
    assert "http://" not in page
    assert "https://" not in page


def test_views_are_there_as_parquet(bundle: Path) -> None:
    (found,) = pq.read_table(bundle / "views/governed_executions.parquet").to_pylist()
    assert (found["requester"], found["approved_by"], found["status"]) == ("eli", "ada", "done")
    assert pq.read_table(bundle / "views/refusals.parquet").num_rows > 0


def test_a_folder_with_something_in_it_is_left_alone(home_of: System, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(CannotExport, match="not empty"):
        export(home_of, tmp_path)
    with pytest.raises(CannotExport, match="no rows in versions 900"):
        export(home_of, tmp_path / "b", first=900)


def test_the_verifier_imports_nothing_of_ours() -> None:
    source = (ROOT / "jobs/audit/verifier.py").read_text()
    imported = {
        line.split()[1].partition(".")[0] for line in source.splitlines() if line.startswith(("import ", "from "))
    }
    assert imported - set(sys.stdlib_module_names) == {"cryptography", "deltalake"}


def test_it_verifies_a_home_as_well(recorded_home: Path) -> None:
    system = open_home(recorded_home)
    command = [sys.executable, "-I", "-c", ALONE, str(ROOT / "jobs/audit/verifier.py"), str(system.home.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("the log holds: versions 1 to ")
