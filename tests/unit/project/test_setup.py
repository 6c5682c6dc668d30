import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.project.checkout import ROOT

#: Programs that set-up may count on; neither a Python nor a Java is among them.
TOOLS = ["sh", "cat", "dirname", "sha256sum", "shasum", "sed", "grep", "tail", "sleep", "id", "env"]


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A copy of what set-up reads, on a machine with nothing but a shell."""
    for name in ("infra/setup.sh", "requirements.txt", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        if found := shutil.which(tool):
            (tmp_path / "bin" / tool).symlink_to(found)
    return tmp_path


def setup(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(folder / "bin"), "HOME": str(folder)}
    return subprocess.run(
        ["sh", "infra/setup.sh"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def program(folder: Path, name: str, text: str) -> None:
    path = folder / "bin" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_without_python_it_says_what_to_install(bare: Path) -> None:
    program(bare, "apt-get", "exit 1")
    done = setup(bare)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no Python 3.11, 3.12 or 3.13" in done.stderr
    assert "sudo apt-get install -y python3 python3-venv" in done.stderr


def test_a_python_that_does_not_fit_is_not_taken(bare: Path) -> None:
    program(bare, "python3", "exit 1")
    done = setup(bare)
    assert done.returncode == 1
    assert "no Python" in done.stderr
    assert not (bare / ".venv").exists()


def test_a_prepared_checkout_is_left_alone_at_once() -> None:
    stamp = ROOT / ".venv" / "stamp"
    if not stamp.is_file():
        pytest.skip("these tests do not run from an environment made by `make setup`")
    before = stamp.stat().st_mtime_ns
    wanted = subprocess.run(
        ["sh", "infra/setup.sh"], cwd=ROOT, env=without_network(), capture_output=True, text=True, check=False
    )
    if stamp.stat().st_mtime_ns != before:
        pytest.skip("the checkout had changed since it was set up")
    assert wanted.returncode == 0
    assert wanted.stderr == ""


def without_network() -> dict[str, str]:
    """Whoever asked the network all the same would hang on this proxy."""
    return os.environ | {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "PIP_RETRIES": "0"}
