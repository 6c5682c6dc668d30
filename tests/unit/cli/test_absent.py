"""A message to an agent nobody runs is visible as such: as it is sent, and to the doctor."""

from __future__ import annotations

from jobs.bootstrap import System
from jobs.liveness import Presence
from tests.unit.cli.conftest import Run, Said


def send(run: Run, to: str, *more: str) -> Said:
    return run("send", "--to", to, "--kind", "Forecast", "--content", "{}", "--as", "eli", *more)


def test_sending_says_that_nobody_runs_the_agent(run: Run, home: System) -> None:
    said = send(run, "CodeAgent", "--json")
    assert (said.code, said.json["nobody_runs"]) == (0, True)
    assert "nobody runs CodeAgent now" in said.err
    assert "tailrace up" in said.err
    assert "tailrace worker MODULE:CLASS" in send(run, "Weatherman").err
    assert "nobody runs" not in send(run, "user:ana").err


def test_an_agent_may_be_named_as_other_commands_show_it(run: Run, home: System) -> None:
    for name in ("rag", "RAG", "ragagent"):
        assert send(run, name, "--json").json["to"] == "RAGAgent"
    assert send(run, "weatherman", "--json").json["to"] == "weatherman"


def test_an_agent_that_runs_here_is_there(run: Run, home: System) -> None:
    with Presence(home.home, "CodeAgent", "tail"):
        said = send(run, "CodeAgent", "--json")
    assert said.json["nobody_runs"] is False
    assert "nobody runs" not in said.err


def test_the_doctor_says_what_waits_for_whom_and_how_long(run: Run, home: System) -> None:
    send(run, "CodeAgent")
    send(run, "CodeAgent")
    (found,) = [one for one in run("doctor", "--json").json["checks"] if one["name"] == "waiting messages"]
    assert found["level"] == "warn"
    assert "2 for CodeAgent, the oldest" in found["found"]
