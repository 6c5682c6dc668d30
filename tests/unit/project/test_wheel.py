"""The two wheels of this checkout: what is in them, that they share nothing, and that the client works alone."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.unit.client.conftest import make_home, running
from tests.unit.project.checkout import PACKAGES, ROOT

#: What a package may hold besides Python.
DATA = {".yaml", ".sql", ".md", ".json", ".properties", ".html", ".css", ".js", ".svg", ".typed"}
CLIENT = {"bus", "schemas", "tailrace"}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """As `make wheels` builds them: client and server."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, str(ROOT / "infra" / "wheels.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    client, server = (Path(line) for line in done.stdout.splitlines())
    return {"client": client, "server": server}


def installed(wheels: list[Path], target: Path) -> Path:
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*command, "--disable-pip-version-check", "--target", str(target), *map(str, wheels)], check=True)
    return target


@pytest.fixture(scope="module")
def both(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(list(wheels.values()), tmp_path_factory.mktemp("both"))


def names(wheel: Path) -> list[str]:
    return zipfile.ZipFile(wheel).namelist()


def metadata(wheel: Path) -> str:
    (name,) = [name for name in names(wheel) if name.endswith("dist-info/METADATA")]
    return zipfile.ZipFile(wheel).read(name).decode()


def owned(found: Distribution) -> set[str]:
    """The files a distribution installed, by its RECORD; what several may own by nature is left out."""
    record = found.read_text("RECORD") or ""
    return {row[0] for row in csv.reader(record.splitlines()) if "/__pycache__/" not in row[0]}


def test_each_package_is_in_one_wheel(wheels: dict[str, Path]) -> None:
    roots = {
        which: {n.split("/")[0] for n in names(wheel) if ".dist-info/" not in n} for which, wheel in wheels.items()
    }
    assert roots == {"client": CLIENT, "server": PACKAGES - CLIENT}


def test_together_they_hold_every_module_and_every_data_file(wheels: dict[str, Path]) -> None:
    wanted = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file()
        and (path.suffix in DATA | {".py"})
        and not any(part.startswith(".") for part in path.parts[-2:])
    }
    assert wanted <= {name for wheel in wheels.values() for name in names(wheel)}


def test_no_file_is_owned_twice(both: Path) -> None:
    """By neither of them and by nobody else in an environment full of other packages."""
    owners: dict[str, list[str]] = {}
    others = [d for d in distributions() if canonicalize_name(d.name) not in ("tailrace", "tailrace-client")]
    for found in [*distributions(path=[str(both)]), *others]:
        name = found.name
        for file in owned(found):
            owners.setdefault(file, []).append(name)
    ours = {file: who for file, who in owners.items() if {"tailrace", "tailrace-client"} & set(who)}
    assert len(ours) > 200
    assert {file: who for file, who in ours.items() if len(who) > 1} == {}
    assert len(others) > 20


def test_the_server_brings_the_command_and_needs_the_client(wheels: dict[str, Path]) -> None:
    (scripts,) = [name for name in names(wheels["server"]) if name.endswith("entry_points.txt")]
    assert "tailrace = apps.cli.main:main" in zipfile.ZipFile(wheels["server"]).read(scripts).decode()
    version = re.search(r"^Version: (.+)$", metadata(wheels["client"]), re.M)[1]
    assert f"Requires-Dist: tailrace-client=={version}\n" in metadata(wheels["server"])
    assert f'Requires-Dist: tailrace=={version}; extra == "server"\n' in metadata(wheels["client"])


@pytest.mark.parametrize("which", ["client", "server"])
def test_neither_can_be_uploaded(wheels: dict[str, Path], which: str) -> None:
    assert "Classifier: Private :: Do Not Upload" in metadata(wheels[which])


def test_the_client_is_typed(wheels: dict[str, Path]) -> None:
    assert {f"{package}/py.typed" for package in CLIENT} <= set(names(wheels["client"]))


# --- the client alone ------------------------------------------------------------------------------------------------

PROGRAM = """
import sys
sys.path += [CLIENT, NEEDS]  # an isolated Python: its own library, the client, and what the client says it needs
from tailrace import AsyncTailraceClient, Payload, TailraceClient, read
heavy = {"pyarrow", "numpy", "pandas", "deltalake", "pyspark", "cryptography", "structlog", "rich", "workers"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)

class Greeting(Payload):
    text: str

with TailraceClient(HOME, user="eli") as client:
    sent = client.send("Greeter", Greeting(text="Ada"))
with TailraceClient(HOME, user="eli") as client:
    assert read(client.wait(sent.message_id, 20), Greeting).text == "Hello Ada!"
    print(read(client.request("Greeter", Greeting(text="Eve"), timeout=20), Greeting).text)
import tailrace
try:
    tailrace.Worker
except ImportError as error:
    print(error)
"""


def closure(needs: list[str]) -> set[str]:
    """What these distributions need, and what that needs in turn, of what is installed here."""
    found: set[str] = set()
    while needs:
        name = canonicalize_name(needs.pop())
        if name not in found:
            found.add(name)
            for text in distribution(name).requires or []:
                requirement = Requirement(text)
                if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                    needs.append(requirement.name)
    return found


def linked(name: str, folder: Path) -> None:
    """The top of every package and module of a distribution, as links."""
    found = distribution(name)
    for top in {Path(file).parts[0] for file in owned(found)} - {"..", "__pycache__"}:
        place = folder / top
        if not place.exists():
            place.symlink_to(found.locate_file(top))


@pytest.fixture
def alone(wheels: dict[str, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A folder with nothing but the client, and one with what its metadata asks for."""
    asked = [
        Requirement(line.split(": ", 1)[1])
        for line in re.findall(r"^Requires-Dist: .+$", metadata(wheels["client"]), re.M)
    ]
    needs = [one.name for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    (tmp_path / "needs").mkdir()
    for name in closure(needs):
        linked(name, tmp_path / "needs")
    return installed([wheels["client"]], tmp_path / "client"), tmp_path / "needs"


def test_the_client_works_with_what_it_says_it_needs_and_nothing_else(alone: tuple[Path, Path], tmp_path: Path) -> None:
    client, needs = alone
    assert not [
        name for name in ("numpy", "pandas", "pyspark", "rich", "sqlglot", "obstore") if (needs / name).exists()
    ]
    place = make_home(tmp_path / "home")
    program = f"CLIENT, NEEDS, HOME = {str(client)!r}, {str(needs)!r}, {str(place.home.root)!r}\n{PROGRAM}"
    with running(place):
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-W", "error", "-c", program],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    greeting, said = done.stdout.splitlines()
    assert greeting == "Hello Eve!"
    assert "pip install 'tailrace-client[server]'" in said


# --- this checkout ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_each_package_is_imported_from_this_checkout(package: str) -> None:
    program = f"import {package}; print({package}.__file__)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).is_relative_to(ROOT)
