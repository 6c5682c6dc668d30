import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.unit.project.checkout import ROOT

PINNED = re.compile(r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)( ; [^\\]+)? \\$")


def entries() -> dict[str, list[str]]:
    """Name -> the lines of its entry; comments and blanks belong to none."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if match := PINNED.match(line):
            found[canonicalize_name(match[1])] = [line]
        elif line.strip() and not line.strip().startswith("#"):
            assert found, f"before any package: {line}"
            found[list(found)[-1]].append(line)
    return found


def asked_for() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(text) for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]]


def test_what_pyproject_asks_for_is_pinned_within_its_bounds() -> None:
    pinned = entries()
    for requirement in asked_for():
        entry = pinned.get(canonicalize_name(requirement.name))
        assert entry, f"{requirement.name} is not in requirements.txt: run `make lock`"
        version = PINNED.match(entry[0])[2]
        assert requirement.specifier.contains(version), f"{requirement} is pinned at {version}: run `make lock`"


def test_everything_that_is_pinned_has_a_reason() -> None:
    text = (ROOT / "requirements.txt").read_text()
    for name in entries():
        assert re.search(rf"^{re.escape(name)}==[^#]+# via", text, re.M | re.I), (
            f"nobody asks for {name}: run `make lock`"
        )


def test_every_entry_is_hashed_and_holds_nothing_else() -> None:
    for name, (_, *rest) in entries().items():
        assert rest, f"{name} has no hash"
        for line in rest:
            assert re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line), f"{name}: {line}"


def test_there_is_no_address_of_an_index() -> None:
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        assert "://" not in line
        assert not line.startswith("-")
