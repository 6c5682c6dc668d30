"""Which hosts a conversation gets started, and when a child that ended is a failure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from apps.cli.hosts import Hosts, host_of
from apps.cli.timeline import Timeline
from jobs.bootstrap import System
from jobs.liveness import Running
from jobs.processes import HostFailed
from schemas.envelope import Message


@dataclass
class FakeChild:
    host: str
    code: int | None = None

    @property
    def process(self) -> FakeChild:
        return self

    def poll(self) -> int | None:
        return self.code


class FakeProcesses:
    def __init__(self) -> None:
        self.children: list[FakeChild] = []
        self.there: dict[str, Running] = {}

    def running(self) -> dict[str, Running]:
        return self.there

    def start(self, hosts: Sequence[str], engine: str) -> None:
        self.children += [FakeChild(host) for host in hosts]

    def wait_ready(self, timeout: float) -> None:
        raise HostFailed("it ended")

    def stop(self) -> None:
        self.children.clear()


@pytest.fixture
def hosts(home: System) -> tuple[Hosts, FakeProcesses]:
    made = Hosts(home)
    made._processes = processes = FakeProcesses()
    return made, processes


def asking(recorded: list[Message], until: str) -> Timeline:
    """The conversation as far as it had come before the commit with this kind."""
    at = next(row.log_version for row in recorded if row.kind == until)
    return Timeline([row for row in recorded if row.log_version < at])


def test_hosts_are_started_when_a_message_waits_for_them(
    hosts: tuple[Hosts, FakeProcesses], recorded: list[Message]
) -> None:
    tended, processes = hosts
    tended.tend(asking(recorded, "GenerateCode"))
    tended.tend(asking(recorded, "GenerateCode"))
    assert [child.host for child in processes.children] == ["main"]
    tended.tend(asking(recorded, "DryRunCode"))
    assert [child.host for child in processes.children] == ["main", "governance", "execution"]


def test_what_runs_already_is_not_started(hosts: tuple[Hosts, FakeProcesses], recorded: list[Message]) -> None:
    tended, processes = hosts
    processes.there = {"OrchestratorAgent": Running("OrchestratorAgent", 1, "tail", True, 0.0)}
    tended.tend(asking(recorded, "GenerateCode"))
    assert processes.children == []


def test_a_child_that_ended_is_a_failure_unless_others_run_its_agents(
    hosts: tuple[Hosts, FakeProcesses], recorded: list[Message]
) -> None:
    tended, processes = hosts
    waiting = asking(recorded, "DryRunCode")
    processes.children = [FakeChild("governance", code=1)]
    with pytest.raises(HostFailed):
        tended.tend(waiting)
    processes.there = {"GovernanceAgent": Running("GovernanceAgent", 1, "tail", True, 0.0)}
    tended.tend(waiting)
    assert processes.children == []


def test_only_our_own_agents_can_be_known_to_run_nowhere(home: System, recorded: list[Message]) -> None:
    looking = Hosts(home, may_start=False)
    assert looking.nobody(asking(recorded, "GenerateCode")) == ["OrchestratorAgent"]
    assert Hosts(home).nobody(asking(recorded, "GenerateCode")) == []
    ask = recorded[0].model_copy(update={"to_agent": "Weatherman"})
    assert looking.nobody(Timeline([ask])) == []
    assert (host_of("ExecutionAgent"), host_of("Weatherman")) == ("execution", None)
