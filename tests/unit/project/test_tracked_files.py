import re
from pathlib import Path

from tests.unit.project.checkout import ROOT, tracked

#: Written in pieces, so that this file is no finding of its own.
HOSTS = [r"py" + r"pi\.", r"python" + r"hosted\.", r"maven" + r"\.org", r"registry\.npm" + r"js", r"maven" + r"2/"]
PLACES = [r"(?<![\w.~-])/ro" + r"ot/\w", r"(?<![\w.~-])/wo" + r"rk/\w", r"(?<![\w.~-])/Us" + r"ers/\w"]

#: Each silencer says what it silences and, after a second #, why.
SILENCER = re.compile(r"#\s*(no" + r"qa|type:\s*ig" + r"nore|pragma:\s*no" + r" cover)")
EXPLAINED = re.compile(
    r"#\s*(no" + r"qa: [A-Z]+\d+(, ?[A-Z]+\d+)*|type: ig" + r"nore\[[\w, -]+\]|pragma: no" + r" cover)\s+# \S"
)


def findings(patterns: list[str]) -> list[str]:
    """`file:line` of every match in a tracked text file."""
    found = []
    for path in tracked():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, 1):
            if any(re.search(pattern, line) for pattern in patterns):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    return found


def unexplained(path: Path) -> list[int]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [number for number, line in enumerate(lines, 1) if SILENCER.search(line) and not EXPLAINED.search(line)]


def test_no_address_of_a_package_registry() -> None:
    assert findings(HOSTS) == []


def test_no_path_of_a_machine() -> None:
    assert findings([*PLACES, re.escape(str(ROOT)) + r"\b", re.escape(str(Path.home())) + r"/\w"]) == []


def test_every_silencer_has_a_reason() -> None:
    found = {str(path.relative_to(ROOT)): unexplained(path) for path in tracked() if path.suffix == ".py"}
    assert {name: lines for name, lines in found.items() if lines} == {}
