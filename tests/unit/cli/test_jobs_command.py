"""`tailrace jobs` as a person types it."""

from __future__ import annotations

import json

import pytest

from jobs import job_runs
from jobs.bootstrap import System
from tests.unit.cli.conftest import Run


@pytest.fixture
def ours(home: System) -> System:
    """A home with a job of its own: setuptools' console script is as good as any."""
    folder = home.home.root / "jobs"
    folder.mkdir()
    settings = {
        "name": "my-job",
        "tasks": [
            {
                "task_key": "help",
                "python_wheel_task": {"package_name": "ruff", "entry_point": "none"},
            }
        ],
        "schedule": {"quartz_cron_expression": "0 30 2 ? * MON", "timezone_id": "UTC"},
    }
    (folder / "broken.job.json").write_text(json.dumps(settings))
    settings["tasks"][0]["python_wheel_task"] = {
        "package_name": "tailrace",
        "entry_point": "tailrace",
        "parameters": ["--help"],
    }
    (folder / "mine.job.json").write_text(json.dumps(settings))
    return home


def test_list_shows_what_there_is_and_what_is_broken(run: Run, ours: System) -> None:
    said = run("jobs", "list", "--json")
    assert said.code == 0
    found = {one["job"]: one for one in said.json["jobs"]}
    assert found["upkeep"]["always"] is True
    assert found["upkeep"]["next"] is None
    assert (found["mine"]["name"], found["mine"]["last"]) == ("my-job", None)
    assert found["mine"]["next"][11:] == "02:30:00+00:00"
    assert "has no entry point none" in said.json["broken"]["broken"]
    shown = run("jobs", "list").out
    assert "all the time, by tailrace up" in shown
    assert "0 30 2 ? * MON UTC" in shown


def test_next_shows_times(run: Run, ours: System) -> None:
    said = run("jobs", "next", "mine", "--count", "3", "--json")
    assert [one[10:] for one in said.json["mine"]] == ["T02:30:00+00:00"] * 3
    assert len(set(said.json["mine"])) == 3
    assert list(run("jobs", "next", "--json").json) == ["audit_anchor", "mine"]  # upkeep is done all the time
    assert "02:30:00" in run("jobs", "next").out


def test_run_runs_one_and_says_how_it_ended(run: Run, ours: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_runs, "LOOK_S", 0.002)
    said = run("jobs", "run", "my-job", "--json")
    assert (said.code, said.json["ok"]) == (0, True), said.err
    (last,) = [one["last"] for one in run("jobs", "list", "--json").json["jobs"] if one["job"] == "mine"]
    assert (last["ok"], last["reason"]) == (True, "asked")
    path = ours.home.root / "jobs" / "mine.job.json"
    path.write_text(path.read_text().replace("--help", "nonsense"))
    said = run("jobs", "run", "mine")
    assert said.code == 1
    assert "exit code 2" in said.out
    assert "No such command" in said.err


def test_a_job_nobody_knows_or_can_follow_is_misuse(run: Run, ours: System) -> None:
    said = run("jobs", "run", "nobody", "--json")
    assert said.code == 2
    assert "there are audit_anchor, broken, mine, upkeep" in said.json["error"]["cause"]
    said = run("jobs", "next", "broken", "--json")
    assert said.code == 2
    assert "broken.job.json: tasks.help" in said.json["error"]["cause"]
