"""`tailrace up --instances`, and how instances are shown."""

from __future__ import annotations

import io
import os

import pytest
from rich.console import Console

from apps.cli.commands.up import counts
from apps.cli.exits import CommandError
from apps.cli.roster import Member, members
from apps.cli.terminal import THEME
from apps.cli.views.roster import roster_table
from jobs.bootstrap import System
from jobs.liveness import Presence, Running
from jobs.processes import Processes
from schemas.envelope import EVERYONE, Message
from schemas.payloads import InstanceChanged
from tests.unit.cli.conftest import Run

NOW = 1_000_000_000_000


def lease(instance: str, place: int, host: str, *, agent: str = "RAGAgent", step: str = "started") -> Message:
    fact = InstanceChanged(
        agent=agent, instance=instance, host=host, engine="tail", step=step, kinds=["FindResult"], duration_ms=10_000
    )
    return Message(
        message_id=f"m{place}",
        correlation_id=instance,
        from_agent=agent,
        to_agent=EVERYONE,
        message_type="event",
        kind=fact.kind(),
        content=fact.model_dump_json(),
        timestamp=NOW - 3_000_000,
        log_version=place,
        seq=0,
    )


def waiting(n: int) -> Message:
    return lease("x", 100 + n, "").model_copy(
        update={"correlation_id": f"c{n}", "to_agent": "RAGAgent", "message_type": "request", "kind": "FindResult"}
    )


def alive(host: str) -> bool | None:
    return {"here:1/x": True, "here:2/x": True, "here:3/x": False}.get(host)


def test_the_option_names_agents_and_numbers() -> None:
    assert counts(["rag=2", "CodeAgent=3"]) == {"RAGAgent": 2, "CodeAgent": 3}
    assert counts(["execution=1"]) == {"ExecutionAgent": 1}


@pytest.mark.parametrize("said", ["rag", "rag=", "rag=0", "rag=-1", "rag=x", "rag=65", "nobody=2", "execution=2"])
def test_what_cannot_be_is_misuse_with_a_remedy(said: str) -> None:
    with pytest.raises(CommandError) as refused:
        counts([said])
    assert (refused.value.code, said in str(refused.value)) == (2, True)
    assert refused.value.remedy


def test_how_many_are_missing(home: System) -> None:
    found = Processes(home)
    assert found.missing_instances({"RAGAgent": 3, "CodeAgent": 1}) == {"RAGAgent": 2}
    with Presence(home.home, "RAGAgent", "tail"), Presence(home.home, "RAGAgent", "tail"):
        assert found.missing_instances({"RAGAgent": 3}) == {"RAGAgent": 1}
        assert found.missing_instances({"RAGAgent": 2}) == {}


def test_instances_of_several_hosts_are_told_apart() -> None:
    rows = [lease("a", 0, "here:1/x"), lease("b", 1, "there:7/y"), lease("c", 2, "here:3/x")]
    here = [Running("RAGAgent", 1, "tail", True, 1.0), Running("CodeAgent", 2, "tail", True, 1.0)]
    (rag,) = members([*rows, *map(waiting, range(30))], here, ["RAGAgent"], NOW, alive)
    assert [(one.host, one.state, one.lease) for one in rag.instances] == [
        ("here:1", "ready", "held"),
        ("there:7", "elsewhere", "held"),
        ("here:3", "dead", "held"),
    ]
    assert sum(one.waiting for one in rag.instances) == rag.waiting == 30
    assert {round(one.share, 3) for one in rag.instances} == {0.333}
    shown = text(rag, NOW)
    assert "renewed 3.0 s ago" in shown
    assert "there:7" in shown
    assert "33%" in shown


def test_a_lease_nobody_renews_is_shown_as_silent() -> None:
    rows = [lease("a", 0, "there:1/y"), lease("b", 1, "there:2/y")]
    (rag,) = members(rows, [], ["RAGAgent"], NOW + 60_000_000, alive)
    assert [one.lease for one in rag.instances] == ["overdue", "overdue"]
    assert rag.state == "stopped"
    assert "silent for 63 s of 10 s" in text(rag, NOW + 60_000_000)


def test_who_is_alone_elsewhere_runs_elsewhere_and_who_died_here_is_stopped() -> None:
    (there,) = members([lease("a", 0, "there:1/y")], [], ["RAGAgent"], NOW + 10**12, alive)
    assert (there.state, there.instances[0].lease) == ("elsewhere", "alone")
    (dead,) = members([lease("a", 0, "here:3/x")], [], ["RAGAgent"], NOW, alive)
    assert (dead.state, dead.instances[0].state) == ("stopped", "dead")


def test_two_instances_are_two_processes_of_the_command(run: Run, home: System) -> None:
    with Presence(home.home, "RAGAgent", "tail") as mark, Presence(home.home, "RAGAgent", "tail"):
        mark.ready()
        (rag,) = [one for one in run("agents", "--json").json if one["agent"] == "RAGAgent"]
        assert (rag["state"], rag["pid"], rag["instances"]) == ("ready", os.getpid(), [])


def text(member: Member, now: int) -> str:
    stream = io.StringIO()
    Console(file=stream, theme=THEME, width=150).print(roster_table([member], now=now / 1e6))
    return stream.getvalue()
