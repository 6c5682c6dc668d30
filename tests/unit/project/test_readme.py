"""What the README shows is what there is, and it runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def test_the_agent_it_shows_is_the_example_and_answers() -> None:
    example = ROOT / "examples" / "greeter" / "greeter.py"
    assert example.read_text(encoding="utf-8") in blocks("python")
    done = subprocess.run([sys.executable, "-W", "error", str(example)], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ('{"text":"Hello Ada!"}\n', "")


def test_every_command_it_names_exists() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "apps.cli.main", "--help"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout
    named = set(re.findall(r"^(?:\.venv/bin/)?tailrace (\w+)", "\n".join(blocks("sh")), re.M))
    assert named
    assert {command for command in named if not re.search(rf"^│ {command} ", listed, re.M)} == set()


def test_every_file_it_points_at_exists() -> None:
    section = README.split("## Where to look next")[1]
    paths = [path for path in re.findall(r"`([\w./]+(?:/|\.\w+))`", section) if "/" in path or path.endswith(".toml")]
    assert len(paths) > 5
    missing = [p for p in paths if not ((ROOT / p).exists() or (ROOT / "config" / p).exists())]
    assert missing == []
