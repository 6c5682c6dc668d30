"""No row and no file of the table keeps anybody from beginning, auditing or anchoring; all rows together do not either."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bus import fold
from jobs.agents import AGENTS, Agent
from schemas.payloads import Ask
from tests.attacks.poisoned_logs import CLASS, POISONS, Place
from tests.attacks.table import ATTACKS, Attack
from tests.unit.audit.recorded import make_home, open_home, record, workers

HERE = [one for one in ATTACKS if one.attack_class == CLASS]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    system = make_home(tmp_path_factory.mktemp("poisoned") / "home")
    asyncio.run(record(system))
    return system.home.root


@pytest.fixture
def place(recorded: Path, tmp_path: Path) -> Place:
    shutil.copytree(recorded, tmp_path / "home")
    return Place(open_home(tmp_path / "home"), tmp_path)


@pytest.mark.parametrize("attack", HERE, ids=lambda one: one.id)
async def test_it_is_held(attack: Attack, place: Place) -> None:
    assert not (await attack.attempt(place)).succeeded


@pytest.mark.parametrize("attack", [one for one in HERE if one.without], ids=lambda one: one.id)
async def test_it_succeeds_without_its_guard(attack: Attack, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(message: Any) -> Any:
        return json.loads(message.content)

    monkeypatch.setattr(fold, "_said", careless)

    assert (await attack.attempt(place)).succeeded


async def test_after_all_of_them_a_question_is_answered(place: Place) -> None:
    for poison in POISONS:
        poison(place.system)
    made = {worker.name: worker for worker in workers(place.system)}
    agents = [Agent(a.name, a.short, "main", lambda _, name=a.name: made[name], "tail") for a in AGENTS]

    host = await asyncio.to_thread(place.system.host, agents, "tail")
    await host.start()
    with place.system.client("ana") as ana:
        asked = ana.send("OrchestratorAgent", Ask(question="how are sales defined?"))
        answer = await asyncio.to_thread(ana.wait, asked, 10)
    await host.stop()

    assert answer.kind == "Answered"
