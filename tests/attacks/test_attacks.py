"""None of the attacks passes; those that name a guard do when it is off, so that the table proves something."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attacks import adversarial, false_principals, forged_approvals, grants, injections, races, second_names  # noqa: F401  # they put themselves into the table
from tests.attacks.arena import Arena
from tests.attacks.table import ATTACKS, Attack

IN_MEMORY = [one for one in ATTACKS if one.attack_class not in ("sql-smuggling", "python-escape", "poisoned-log")]


@pytest.mark.parametrize("attack", IN_MEMORY, ids=lambda one: one.id)
async def test_it_is_held(attack: Attack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arena = Arena(tmp_path, monkeypatch, None, attack.policy and attack.policy())
    await arena.start()
    try:
        came = await attack.attempt(arena)
    finally:
        await arena.close()
    assert not came.succeeded
    assert not attack.rule or attack.rule in came.rules


@pytest.mark.parametrize("attack", [one for one in IN_MEMORY if one.without], ids=lambda one: one.id)
async def test_it_succeeds_without_its_guard(attack: Attack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arena = Arena(tmp_path, monkeypatch, attack.without, attack.policy and attack.policy())
    await arena.start()
    try:
        came = await attack.attempt(arena)
    finally:
        await arena.close()
    assert came.succeeded
