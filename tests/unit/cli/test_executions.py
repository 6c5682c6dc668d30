"""Executions by commands: what ran, what is in doubt and settled, what is ended, what is undone."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from jobs.bootstrap import System
from tests.fakes import FakeEngine, FixedRoles, policy_of
from tests.unit.cli.conftest import Run, workers
from workers.execution.agent import ExecutionAgent
from workers.governance.agent import GovernanceAgent
from workers.ports import Executed, Outcome, OutcomeUnknown, Rows, Statement, StatementFailed
from workers.runtime.base import Worker
from workers.runtime.whereabouts import whereabouts

PATIENCE = 20.0


class Engine(FakeEngine):
    """What becomes of a run is in the name of its target."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: dict[str, asyncio.Event] = {}

    async def run(self, statement: Statement, grant_id: str, row_limit: int, *, digest: str | None = None) -> Executed:
        match statement.target:
            case "results.lost":
                raise OutcomeUnknown("the connection broke")
            case "results.slow":
                self.ended[grant_id] = asyncio.Event()
                await self.ended[grant_id].wait()
                raise StatementFailed("it was ended")
        return Executed(Rows(("n",), ((1,),), False), 1, statement.target, 4, 1.0, 3)

    async def outcome_of(self, grant_id: str, target: str, since: int | None = None) -> Outcome | None:
        raise OutcomeUnknown("it does not tell")

    async def cancel(self, grant_id: str) -> bool:
        if grant_id in self.ended:
            self.ended[grant_id].set()
        return grant_id in self.ended


def live_workers() -> list[Worker]:
    rule = {
        "id": "execution.four_eyes",
        "effect": "approve",
        "reason": "another person has to approve what is run",
        "when": {"subject": ["execution"], "languages": ["sql", "restore"], "classes": ["create"]},
        "approval": {"needs": [{"group": "admin", "count": 1}]},
    }
    others = [w for w in workers() if w.name not in ("ExecutionAgent", "GovernanceAgent")]
    governance = GovernanceAgent(FixedRoles(), policy_of(rule), "dev")
    return [*others, governance, ExecutionAgent(Engine(), FixedRoles(), "dev", process=whereabouts())]


def executed(run: Run, table: str, step: str) -> str:
    """Ask, approve, wait until it has come so far; the grant."""
    question = f"Execute SQL to find the top customers and save it to table {table}"
    asked = run("ask", question, "--as", "eli", "--no-wait-approval", "--json", "--timeout", "20").json
    approve(run, asked["correlation_id"])
    return came_to(run, asked["correlation_id"], step)["grant_id"]


def approve(run: Run, conversation: str) -> None:
    (approval,) = [one for one in run("approvals", "list", "--json").json if one["correlation_id"] == conversation]
    assert run("approvals", "approve", approval["approval_id"], "--as", "ada").code == 0


def came_to(run: Run, conversation: str, step: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = [one for one in run("executions", "--json").json if one["correlation_id"] == conversation]
        if found and found[0]["step"] == step:
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"it never was {step}: {found}")


def test_an_execution_is_shown_and_undone_by_another_one(run: Run, live: System) -> None:
    grant = executed(run, "best", "done")
    shown = run("executions", "show", grant)
    assert shown.code == 0
    assert "results.best  v3 → v4" in shown.out
    assert f"tailrace undo {grant} --as eli" in shown.out

    said = run("undo", grant, "--as", "eli", stdin="n\n")
    assert said.code != 0
    assert "goes back to" in said.out
    assert run("approvals", "list", "--json").json == []

    asked = run("undo", grant, "--as", "eli", "--json", "--timeout", "20")
    assert (asked.code, asked.json["status"]) == (0, "pending_approval")
    conversation = asked.json["correlation_id"]
    (approval,) = [one for one in run("approvals", "list", "--json").json if one["correlation_id"] == conversation]
    assert approval["code"] == {"language": "restore", "text": "results.best TO VERSION 3 FROM VERSION 4"}
    approve(run, conversation)
    done = run("wait", conversation, "--json", "--timeout", "20")
    assert (done.code, done.json["status"]) == (0, "answered")
    assert "now version 4 of results.best; approved by ada" in done.json["answer"]
    undoing = came_to(run, conversation, "done")
    assert (undoing["undoes"], undoing["table_version_before"]) == (grant, 3)


def test_what_is_in_doubt_is_listed_until_another_person_settles_it(run: Run, live: System) -> None:
    grant = executed(run, "lost", "in_doubt")
    assert grant in [one["grant_id"] for one in run("executions", "--in-doubt", "--json").json]
    assert "settle" in run("executions", "show", grant).out
    settle = ["executions", "settle", grant]
    assert run(*settle, "--as", "ada", "--reason", "r", "--done", "--failed").code == 2
    own = run(*settle, "--as", "eli", "--failed", "--reason", "I know", "--json")
    assert (own.code, own.json["accepted"], own.json["rule"]) == (3, False, "execution.four_eyes")
    settled = run(*settle, "--as", "ada", "--failed", "--reason", "I looked", "--json")
    assert (settled.code, settled.json["accepted"], settled.json["rule"]) == (0, True, "execution.settled")
    found = next(one for one in run("executions", "--json").json if one["grant_id"] == grant)
    assert (found["step"], found["settled_by"], found["reason"]) == ("failed", "ada", "I looked")
    assert grant not in [one["grant_id"] for one in run("executions", "--in-doubt", "--json").json]
    again = run(*settle, "--as", "ada", "--failed", "--reason", "again")
    assert again.code == 3
    assert "rule execution.settled" in again.out
    assert run("undo", grant, "--as", "eli", "--yes").code == 2


def test_a_run_is_ended_by_who_asked_for_it(run: Run, live: System) -> None:
    grant = executed(run, "slow", "claimed")
    other = run("executions", "cancel", grant, "--as", "ana", "--json")
    assert (other.code, other.json["rule"]) == (3, "rbac.execution.approve")
    ended = run("executions", "cancel", grant[:10], "--as", "eli", "--reason", "too slow")
    assert ended.code == 0
    assert "it was ended, and changed nothing" in ended.out
    found = next(one for one in run("executions", "--json").json if one["grant_id"] == grant)
    assert (found["step"], found["reason"]) == ("cancelled", "eli ended it: too slow")
    assert run("executions", "cancel", grant, "--as", "eli", "--json").json["rule"] == "execution.not_running"


def test_an_undo_may_take_back_what_came_later_or_fall_back_on_nothing() -> None:
    from apps.cli.commands.undo import request

    assert request(effect(4, 3), True).code.text == "results.x TO VERSION 3"
    assert request(effect(4, None), False).code.text == "results.x TO VERSION 3 FROM VERSION 4"
    assert request(effect(0, None), False).code.text == "results.x TO NOTHING FROM VERSION 0"


def effect(version: int, before: int | None) -> Any:
    from apps.cli.effects import Effect

    said: dict[str, Any] = dict.fromkeys(Effect.__dataclass_fields__)
    said |= {"grant_id": "g", "step": "done", "question": "q", "target": "results.x"}
    return Effect(**(said | {"table_version": version, "table_version_before": before}))


def test_a_grant_that_nobody_knows_is_a_misuse(run: Run, live: System) -> None:
    for words in (("executions", "show", "grant-nil"), ("undo", "grant-nil", "--as", "eli", "--yes")):
        said = run(*words, "--json")
        assert said.code == 2
        assert "nothing was executed under grant-nil" in said.json["error"]["cause"]
