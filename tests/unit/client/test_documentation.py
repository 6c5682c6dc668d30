"""Every example file and every block of docs/client.md runs as it stands, against a real home."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tailrace
import tailrace.errors
from bus import errors
from jobs.agents import Agent
from tests.unit.client.conftest import make_home, running

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.S)


@pytest.fixture(scope="module")
def beside_a_greeter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a home `.tailrace`, and the greeter of the examples running over it."""
    folder = tmp_path_factory.mktemp("service")
    system = make_home(folder / ".tailrace")
    spec = importlib.util.spec_from_file_location("greeter", ROOT / "examples" / "greeter" / "greeter.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with running(system, Agent("Greeter", "greeter", "greeter", lambda _: module.Greeter(), "tail")):
        yield folder


def test_the_page_runs_from_top_to_bottom(
    beside_a_greeter: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(beside_a_greeter)
    names: dict[str, object] = {"__name__": "docs"}
    assert len(BLOCKS) > 6
    for block in BLOCKS:
        exec(compile(block, "docs/client.md", "exec", dont_inherit=True), names)
    assert "no response from Greter within 0.1 s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("example", "says"),
    [
        ("ask.py", ["Hello Ada!", "Hello Grace!", "['Greeting', 'Greeting']"]),
        ("import_rows.py", ["1000 messages, the last one is guests-2026-999", '{"text":"Hello guest 999!"}'] * 2),
        ("follow_events.py", ["tea 250", "tea 251", "tea 252", "tea 253"]),
        ("in_a_loop.py", ["Hello guest 99!", "100"]),
    ],
)
def test_the_examples_run(beside_a_greeter: Path, example: str, says: list[str]) -> None:
    """`import_rows.py` is to be run twice, and says the same then."""
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / "client" / example)]
    said: list[str] = []
    for _ in range(2 if example == "import_rows.py" else 1):
        done = subprocess.run(command, cwd=beside_a_greeter, capture_output=True, text=True, timeout=60)
        assert done.stderr == ""
        said += done.stdout.splitlines()
    assert said == says


def test_what_a_client_logs_stays_out_of_the_output(beside_a_greeter: Path) -> None:
    program = (
        "from tailrace import Payload, TailraceClient\n"
        "class Greeting(Payload):\n    text: str\n"
        "with TailraceClient('.tailrace', user='eli') as client: client.send('Greter', Greeting(text='Ada'))"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=beside_a_greeter, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")
    assert "client.unknown_agent" in done.stderr
    assert "Greeter" in done.stderr


def test_there_is_no_other_example() -> None:
    there = {path.name for path in (ROOT / "examples" / "client").glob("*.py")}
    assert there == {"ask.py", "import_rows.py", "follow_events.py", "in_a_loop.py"}


def test_every_error_of_a_client_is_explained() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", PAGE.split("## When something is wrong")[1], re.M))
    assert named == set(tailrace.errors.__all__) - {"BusError", "LogError"}
    assert all(issubclass(getattr(errors, name), errors.BusError) for name in named)


def test_everything_the_facade_names_is_there() -> None:
    assert all(getattr(tailrace, name) for name in tailrace.__all__)
    from tailrace.payloads import Ask

    assert Ask.kind() == "Ask"
    with pytest.raises(AttributeError, match="there is no payload Aks"):
        _ = tailrace.payloads.Aks


def test_importing_the_client_loads_what_it_needs_and_no_more() -> None:
    """Half a second is the promise; what would break it is a package, so it is packages that are counted."""
    program = (
        "import sys, time; before = set(sys.modules); began = time.process_time()\n"
        "from tailrace import AsyncTailraceClient, TailraceClient, read\n"
        "seconds = time.process_time() - began\n"
        "tops = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(seconds); print(*sorted(tops - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    seconds, packages = done.stdout.splitlines()
    ours = {"bus", "schemas", "tailrace"}
    pydantic = {"pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}
    assert {name for name in packages.split() if name[0] != "_"} - ours <= pydantic
    assert float(seconds) < 2, "processor time, four times what was promised: the machine may be busy"
