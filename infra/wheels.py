"""Builds the two wheels of this checkout: `tailrace-client` for other services, and `tailrace`, the server on top of it.

The checkout is one project, which is what one works in. Whoever installs gets two, so that a service which only sends and
asks gets neither Spark nor a web server: each package belongs to one of them, whole. Python and setuptools are all it needs.

    python infra/wheels.py [FOLDER]        writes both to FOLDER (dist)
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

CLIENT = "tailrace-client"
#: What the client consists of, and what it needs of what the whole project depends on.
CLIENT_PACKAGES = ("bus", "schemas", "tailrace")
CLIENT_NEEDS = (
    "pydantic",
    "structlog",
    "pyarrow",
    "deltalake",
    "cryptography",
    "google-re2",
    "inotify_simple",
    "stamina",
)
#: Extra of the client -> what it needs besides: tables in an object store.
CLIENT_EXTRAS = {"objects": ("obstore",)}

_IGNORED = shutil.ignore_patterns("__pycache__", ".*")


def build(folder: Path) -> list[Path]:
    """Both wheels, client first. Raises SystemExit with what the builder said when one cannot be built."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [_build(folder, name, packages, table, project) for name, packages, table in _wheels(project)]


def _wheels(project: dict[str, Any]) -> list[tuple[str, list[str], dict[str, Any]]]:
    """(name, packages, the project table) of each."""
    whole = project["project"]
    roots = sorted({name.split(".")[0] for name in project["tool"]["setuptools"]["packages"]["find"]["include"]})
    needs = {_name(text): text for text in whole["dependencies"]}
    same = {key: whole[key] for key in ("version", "requires-python", "classifiers")}
    server = f"{whole['name']}=={whole['version']}"
    client = same | {
        "name": CLIENT,
        "description": "Send, ask and listen on a message bus made of Delta tables: the client of Tailrace.",
        "dependencies": [needs[_name(one)] for one in CLIENT_NEEDS],
        "optional-dependencies": {
            **{extra: [needs[_name(one)] for one in names] for extra, names in CLIENT_EXTRAS.items()},
            "server": [server],
        },
    }
    extras = {name: texts for name, texts in whole["optional-dependencies"].items() if name != "dev"}
    full = whole | {
        "dependencies": [f"{CLIENT}=={whole['version']}", *whole["dependencies"]],
        "optional-dependencies": extras,
    }
    rest = [root for root in roots if root not in CLIENT_PACKAGES]
    return [(CLIENT, list(CLIENT_PACKAGES), client), (whole["name"], rest, full)]


def _build(folder: Path, name: str, packages: list[str], table: dict[str, Any], project: dict[str, Any]) -> Path:
    """In a copy, because setuptools leaves a folder `build` behind and would take up what lies in it."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        for package in packages:
            shutil.copytree(ROOT / package, copy / package, ignore=_IGNORED)
        find = {"include": [pattern for package in packages for pattern in (package, f"{package}.*")]}
        data = project["tool"]["setuptools"]["package-data"]
        setup = {"include-package-data": False, "packages": {"find": find}, "package-data": data}
        written = {"build-system": project["build-system"], "project": table, "tool": {"setuptools": setup}}
        (copy / "pyproject.toml").write_text(_toml(written), encoding="utf-8")
        program = "import sys, setuptools.build_meta as backend; print(backend.build_wheel(sys.argv[1]))"
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-c", program, str(folder.resolve())]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{name} cannot be built:\n{done.stderr}")
        return folder / done.stdout.splitlines()[-1]


def _name(requirement: str) -> str:
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower().replace("_", "-")


def _toml(tables: dict[str, Any], path: tuple[str, ...] = ()) -> str:
    """Strings, lists of strings, booleans and tables: all that is needed here, and JSON's text for them is TOML's."""
    plain = {key: value for key, value in tables.items() if not isinstance(value, dict)}
    lines = [f"[{'.'.join(json.dumps(part) for part in path)}]"] if path and plain else []
    lines += [f"{json.dumps(key)} = {json.dumps(value, ensure_ascii=False)}" for key, value in plain.items()]
    nested = [_toml(value, (*path, key)) for key, value in tables.items() if isinstance(value, dict)]
    return "\n".join([*lines, *nested])


if __name__ == "__main__":
    for wheel in build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist"):
        print(wheel)
