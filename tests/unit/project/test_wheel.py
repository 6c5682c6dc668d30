import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.unit.project.checkout import PACKAGES, ROOT

#: What a package may hold besides Python.
DATA = {".yaml", ".sql", ".md", ".json", ".properties", ".html", ".css", ".js", ".svg"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built in a copy, because setuptools leaves a folder `build` behind and would take up what lies in it."""
    copy = tmp_path_factory.mktemp("copy")
    for name in sorted([*PACKAGES, "tests", "infra"]):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    program = "import setuptools.build_meta as backend; print(backend.build_wheel('dist'))"
    done = subprocess.run([sys.executable, "-c", program], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(copy / "dist" / done.stdout.splitlines()[-1])


def test_the_wheel_holds_our_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    roots = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" not in name}
    assert roots == PACKAGES


def test_the_wheel_holds_every_module_and_every_data_file(wheel: zipfile.ZipFile) -> None:
    wanted = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file()
        and (path.suffix in DATA | {".py"})
        and not any(part.startswith(".") for part in path.parts[-2:])
    }
    assert wanted <= set(wheel.namelist())


def test_the_wheel_brings_the_command(wheel: zipfile.ZipFile) -> None:
    (scripts,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "tailrace = apps.cli.main:main" in wheel.read(scripts).decode()


def test_the_wheel_refuses_to_be_uploaded(wheel: zipfile.ZipFile) -> None:
    (metadata,) = [name for name in wheel.namelist() if name.endswith("dist-info/METADATA")]
    assert "Classifier: Private :: Do Not Upload" in wheel.read(metadata).decode()


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_each_package_is_imported_from_this_checkout(package: str) -> None:
    program = f"import {package}; print({package}.__file__)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).is_relative_to(ROOT)
