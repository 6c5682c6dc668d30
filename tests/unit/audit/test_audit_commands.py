"""`tailrace audit`: what a person types, and what a script reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import Result
from typer.testing import CliRunner

from apps.cli.main import app
from jobs import logging
from jobs.bootstrap import System
from tests.unit.audit.forging import cut_off


@pytest.fixture(autouse=True)
def there(home: System, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands work in this home; loggers keep no stream that the runner closes."""
    monkeypatch.setenv("TAILRACE_HOME", str(home.home.root))
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setattr(logging, "configure", lambda *_, **__: None)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    yield
    structlog.reset_defaults()


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["audit", *words])


def document(*words: str) -> tuple[int, Any]:
    said = run(*words, "--json")
    return said.exit_code, json.loads(said.stdout)


def test_anchor_then_verify_then_a_log_that_was_cut_off(home: System, tmp_path: Path) -> None:
    file = str(tmp_path / "anchors.jsonl")
    code, said = document("anchor", "--to", file)
    assert (code, said["new"], said["sent"]) == (0, True, {file: 1})
    code, said = document("verify", "--anchor", file)
    assert (code, said["ok"], said["checked"]["anchors"]) == (0, True, 2)
    cut_off(home, 5)
    code, said = document("verify", "--anchor", file)
    assert (code, said["ok"]) == (1, False)
    assert said["found"]["anchor.truncated"] == 1
    assert "anchor.truncated" in run("verify", "--anchor", file).stdout


def test_what_nobody_anchored_elsewhere_is_said_to_be_so() -> None:
    said = run("verify")
    assert said.exit_code == 0
    assert "the audit trail holds" in said.stdout
    assert "a holder of files and keys could not forge" in said.stderr
    assert "in the log only" in run("anchor").stderr


def test_a_misspelt_place_of_anchors_proves_nothing(tmp_path: Path) -> None:
    said = run("verify", "--anchor", str(tmp_path / "nothing"))
    assert said.exit_code == 2
    assert "there are no anchors at" in said.stderr
    assert "audit anchor --to" in said.stderr


def test_the_setting_names_places_too(home: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_ANCHOR_TO", f"{tmp_path}/a.jsonl, {tmp_path}/b.jsonl")
    code, said = document("anchor")
    assert (code, set(said["sent"])) == (0, {f"{tmp_path}/a.jsonl", f"{tmp_path}/b.jsonl"})
    assert document("verify")[1]["checked"]["anchors"] == 3


def test_export_says_where_to_read_and_how_to_check(tmp_path: Path) -> None:
    run("anchor")
    said = run("export", "--to", str(tmp_path / "b"))
    assert said.exit_code == 0, said.output
    assert "report.html" in said.stdout
    assert "verifier.py" in said.stdout
    code, told = document("export", "--to", str(tmp_path / "c"), "--from", "3", "--to-version", "9")
    assert (code, told["from_version"], told["to_version"], told["verification"]["ok"]) == (0, 3, 9, True)
    again = run("export", "--to", str(tmp_path / "b"))
    assert (again.exit_code, "is not empty" in again.stderr) == (2, True)
