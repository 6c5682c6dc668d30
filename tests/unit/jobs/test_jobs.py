"""Jobs from files: read, run as processes, one at a time, and by the clock."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bus.home import Home
from jobs import job_runs
from jobs.job_files import SHIPPED, BadJob, Job, jobs, read
from jobs.job_runs import JobRun, JobRunning, Runs
from jobs.scheduler import JobScheduler

PROGRAM = """
import os, sys, time
from pathlib import Path

def main():
    word, *more = sys.argv[1:]
    with open(os.environ["TAILRACE_HOME"] + "/said", "a") as file:
        file.write(" ".join([word, *more]) + "\\n")
    print("said", word)
    if word == "sleep":
        time.sleep(600)
    if word == "once" and not Path(os.environ["TAILRACE_HOME"], "again").exists():
        Path(os.environ["TAILRACE_HOME"], "again").touch()
        return 3
    return 1 if word == "fail" else None
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """And a distribution `errands` with an entry point `errand`, which writes down its arguments."""
    place = tmp_path / "site"
    (place / "errands-1.dist-info").mkdir(parents=True)
    (place / "errands-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: errands\nVersion: 1\n")
    (place / "errands-1.dist-info" / "entry_points.txt").write_text("[console_scripts]\nerrand = errands:main\n")
    (place / "errands.py").write_text(PROGRAM)
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("PYTHONPATH", str(place))
    monkeypatch.setattr(job_runs, "LOOK_S", 0.002)
    (tmp_path / "home" / "jobs").mkdir(parents=True)
    return Home(tmp_path / "home")


def task(key: str, *words: str, after: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    wheel = {"package_name": "errands", "entry_point": "errand", "parameters": list(words)}
    return {"task_key": key, "python_wheel_task": wheel, "depends_on": [{"task_key": one} for one in after], **more}


def job(home: Home, *tasks: dict[str, Any], key: str = "errand", **settings: Any) -> Job:
    path = home.root / "jobs" / f"{key}.job.json"
    path.write_text(json.dumps({"name": f"my {key}", "tasks": list(tasks), **settings}))
    return read(path)


def said(home: Home) -> list[str]:
    path = home.root / "said"
    return path.read_text().splitlines() if path.exists() else []


def hourly(unit: str = "HOURS", interval: int = 1) -> dict[str, Any]:
    return {"trigger": {"periodic": {"interval": interval, "unit": unit}}}


# --- files -------------------------------------------------------------------------------------------------------------


def test_every_job_that_comes_with_us_can_be_followed(home: Home) -> None:
    found = jobs(home)
    assert found.broken == {}
    assert sorted(found.found) == sorted(path.name.removesuffix(".job.json") for path in SHIPPED.glob("*.job.json"))
    upkeep = found.named("tailrace-upkeep")
    assert upkeep.command(upkeep.ordered()[0]) == ("apps.cli.main:main", ["upkeep", "--json"])
    assert not upkeep.is_due_by_clock  # beside the hosts it is done all the time


def test_one_of_the_home_takes_the_place_of_ours(home: Home) -> None:
    job(home, task("a", "hello"), key="upkeep")
    assert jobs(home).named("upkeep").settings.name == "my upkeep"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"schedule": {"quartz_cron_expression": "0 0 2 * * *"}}, "schedule.quartz_cron_expression: .*exactly one"),
        ({"schedule": {"quartz_cron_expression": "0 0 2 * * ?", "timezone_id": "Mars"}}, "there is no zone Mars"),
        ({"schedule": {}}, "schedule.quartz_cron_expression: Field required"),
        ({"trigger": {"periodic": {"interval": 0, "unit": "DAYS"}}}, "trigger.periodic.interval"),
        ({"tasks": []}, "tasks: List should have at least 1"),
        ({"tasks": [{"task_key": "a", "notebook_task": {}}]}, "tasks.a: only python_wheel_task runs here"),
        ({"tasks": [task("a"), task("a")]}, "two of them have the same task_key"),
        ({"tasks": [task("a", after=("b",)), task("b", after=("a",))]}, "a, b wait for each other"),
        ({"tasks": [task("a", after=("c",))]}, "there is no task c"),
        ({"tasks": [task("a", "{{job.run_id}}")]}, "only Databricks resolves"),
    ],
)
def test_a_broken_file_names_its_field_and_keeps_no_other_from_running(
    home: Home, settings: dict[str, Any], reason: str
) -> None:
    path = home.root / "jobs" / "bad.job.json"
    path.write_text(json.dumps({"name": "bad", "tasks": [task("a")], **settings}))
    found = jobs(home)
    assert "upkeep" in found.found
    with pytest.raises(BadJob, match=reason):
        found.named("bad")
    path.write_text("{half")
    assert "bad" in jobs(home).broken


@pytest.mark.parametrize(("name", "point"), [("nothing", "errand"), ("errands", "other")])
def test_what_is_not_installed_is_named(home: Home, name: str, point: str) -> None:
    wheel = {"package_name": name, "entry_point": point}
    found = job(home, {"task_key": "a", "python_wheel_task": wheel})
    with pytest.raises(BadJob, match=r"is not installed here|has no entry point other"):
        found.command(found.settings.tasks[0])


def test_named_parameters_and_periods(home: Home) -> None:
    wheel = {"package_name": "errands", "entry_point": "errand", "named_parameters": {"day": "1"}}
    found = job(home, {"task_key": "a", "python_wheel_task": wheel}, **hourly("HOURS", 6))
    assert found.command(found.settings.tasks[0])[1] == ["--day=1"]
    assert found.next_after(datetime(2026, 1, 1, 7, tzinfo=UTC)) == datetime(2026, 1, 1, 12, tzinfo=UTC)
    weekly = job(home, task("a"), **hourly("WEEKS"))
    assert weekly.next_after(datetime(2026, 1, 1, 7, tzinfo=UTC)) == datetime(2026, 1, 5, tzinfo=UTC)


# --- runs --------------------------------------------------------------------------------------------------------------


def test_tasks_run_in_their_order_and_the_run_is_noted(home: Home) -> None:
    found = job(home, task("second", "two", after=("first",)), task("first", "one", "--json"))
    runs = Runs(home)
    assert runs.last(found) is None
    done = runs.run(found, "asked")
    assert (done.ok, [one.task for one in done.tasks]) == (True, ["first", "second"])
    assert said(home) == ["one --json", "two"]
    assert Path(done.log).read_text().split() == ["said", "one", "said", "two"]
    assert Runs(home).last(found) == done


def test_what_depends_on_a_failure_is_not_run(home: Home) -> None:
    found = job(home, task("a", "fail", max_retries=1), task("b", "two", after=("a",)), task("c", "three"))
    done = Runs(home).run(found, "asked")
    assert [(one.task, one.code, one.attempts) for one in done.tasks] == [("a", 1, 2), ("c", 0, 1), ("b", None, 0)]
    assert not done.ok
    assert not Runs(home).last(found).ok


def test_a_task_is_tried_again(home: Home) -> None:
    done = Runs(home).run(job(home, task("a", "once", max_retries=1)), "asked")
    assert (done.ok, done.tasks[0].attempts) == (True, 2)


def test_a_task_that_takes_too_long_is_ended(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    found = job(home, task("a", "sleep", timeout_seconds=1))
    done = Runs(home).run(found, "asked")
    assert (done.ok, done.tasks[0].timed_out) == (False, True)


def test_one_run_at_a_time_and_stopping_ends_it(home: Home) -> None:
    found = job(home, task("a", "sleep"))
    runs, done = Runs(home), []
    thread = threading.Thread(target=lambda: done.append(runs.run(found, "scheduled")))
    thread.start()
    try:
        until(lambda: said(home))
        with pytest.raises(JobRunning, match="the job errand runs already"):
            Runs(home).run(found, "asked")
        assert Runs(home).last(found).ended is None
    finally:
        runs.stop()
        thread.join()
    assert [one.ok for one in done] == [False]


def until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


# --- by the clock --------------------------------------------------------------------------------------------------------


def ran_at(home: Home, found: Job, when: datetime) -> None:
    """As if it had run then."""
    folder = home.run / "jobs"
    folder.mkdir(parents=True, exist_ok=True)
    said = JobRun(found.key, "scheduled", when.timestamp(), "log", when.timestamp() + 1).document()
    (folder / f"{found.key}.json").write_text(json.dumps(said))


def test_what_was_missed_while_nothing_ran_is_run_once(home: Home) -> None:
    found = job(home, task("a", "late"), **hourly())
    ran_at(home, found, datetime.now(UTC) - timedelta(days=3))
    fresh = job(home, task("a", "fresh"), key="fresh", **hourly("WEEKS", 50))
    ran_at(home, fresh, datetime.now(UTC) - timedelta(minutes=1))
    job(home, task("a", "never"), key="never", **hourly("WEEKS", 50))
    job(home, task("a", "paused"), key="paused", trigger=hourly()["trigger"] | {"pause_status": "PAUSED"})
    (home.root / "jobs" / "broken.job.json").write_text("{half")
    scheduler = JobScheduler(home)
    scheduler.start()
    try:
        until(lambda: (last := Runs(home).last(found)) is not None and last.ok and last.tasks)
    finally:
        scheduler.stop()
        scheduler.stop()
    assert said(home) == ["late"]
    assert not JobScheduler(home).missed(found, datetime.now(UTC))


def test_a_job_that_is_due_runs(home: Home) -> None:
    job(home, task("a", "tick"), schedule={"quartz_cron_expression": "* * * * * ?", "timezone_id": "UTC"})
    scheduler = JobScheduler(home)
    scheduler.start()
    try:
        until(lambda: said(home))
    finally:
        scheduler.stop()
    assert said(home)[0] == "tick"


def test_what_runs_ends_with_the_scheduler(home: Home) -> None:
    found = job(home, task("a", "sleep"), **hourly())
    ran_at(home, found, datetime.now(UTC) - timedelta(days=1))
    scheduler = JobScheduler(home)
    scheduler.start()
    until(lambda: said(home))
    scheduler.stop()
    last = Runs(home).last(found)
    assert last is not None
    assert (last.ok, last.tasks[0].timed_out) == (False, False)
    assert last.ended is not None
