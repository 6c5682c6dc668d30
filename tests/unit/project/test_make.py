import re
import shutil
import subprocess

import pytest

from tests.unit.project.checkout import ROOT

TARGETS = {
    "setup",
    "run",
    "test",
    "lint",
    "fmt",
    "unit",
    "integration",
    "acceptance",
    "bench",
    "bench-bus",
    "coverage",
    "lock",
    "wheels",
    "clean",
}

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*words: str) -> str:
    return subprocess.run(
        ["make", "--no-print-directory", *words], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def test_make_alone_prints_help() -> None:
    assert make() == make("help")


def test_help_lists_every_target_with_what_it_does() -> None:
    listed = dict(re.findall(r"^  ([a-z-]+) +(\S.+)$", make("help"), re.M))
    assert set(listed) == TARGETS | {"help"}
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.M)
    assert set(phony[1].split()) == set(listed)


@pytest.mark.parametrize("target", sorted(TARGETS - {"setup", "clean"}))
def test_every_target_that_needs_the_environment_sets_it_up_first(target: str) -> None:
    first = make("--dry-run", target).splitlines()[0]
    assert first.endswith("infra/setup.sh")


def test_continuous_integration_runs_make_test() -> None:
    run = ROOT / ".ci" / "run"
    assert run.stat().st_mode & 0o111
    assert "exec make test" in run.read_text()


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "infra").glob("*.sh")))
def test_scripts_are_executable_and_parse(script: str) -> None:
    path = ROOT / "infra" / script
    assert path.stat().st_mode & 0o111
    subprocess.run(["sh", "-n", str(path)], check=True)
