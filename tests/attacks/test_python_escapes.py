"""No code of the table leaves its sandbox; in front of the walls all of it does what it tries."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.attacks.python_escapes import CLASS, Place
from tests.attacks.table import ATTACKS, Attack
from tests.integration.code_sandbox.conftest import Runs, behind_walls, code_home, world
from tests.integration.code_sandbox.test_walls import probe

__all__ = ["behind_walls", "code_home", "world"]

pytestmark = pytest.mark.integration

HERE = [one for one in ATTACKS if one.attack_class == CLASS]


@pytest.fixture(scope="module")
def tried() -> dict[str, dict[str, str]]:
    """How each attempt went, by where: all of them are one run."""
    return {}


@pytest.fixture
def inside(tried: dict[str, dict[str, str]], behind_walls: Runs, world: dict[str, str]) -> Place:
    async def went() -> dict[str, str]:
        if "inside" not in tried:
            said = "\nresult = [{'name': n, 'went': w} for n, w in outcomes.items()]"
            ended, given = await behind_walls(probe(world, "1") + said)
            assert given is not None, ended
            tried["inside"] = {row["name"]: row["went"] for row in given.to_pylist()}
        return tried["inside"]

    return Place(went, behind_walls)


def in_front(world: dict[str, str], folder: Path) -> dict[str, str]:
    """A plain interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", probe(world, "2") + "\nprint(json.dumps(outcomes))"],
        cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def outside(tried: dict[str, dict[str, str]], world: dict[str, str], behind_walls: Runs, tmp_path: Path) -> Place:
    async def went() -> dict[str, str]:
        if "outside" not in tried:
            tried["outside"] = await asyncio.to_thread(in_front, world, tmp_path)
        return tried["outside"]

    return Place(went, behind_walls)


@pytest.mark.parametrize("attack", HERE, ids=lambda one: one.id)
async def test_it_is_held(attack: Attack, inside: Place) -> None:
    came = await attack.attempt(inside)

    assert not came.succeeded
    assert not attack.rule or attack.rule in came.rules


@pytest.mark.parametrize("attack", [one for one in HERE if one.without], ids=lambda one: one.id)
async def test_it_succeeds_without_its_guard(attack: Attack, outside: Place) -> None:
    assert (await attack.attempt(outside)).succeeded
