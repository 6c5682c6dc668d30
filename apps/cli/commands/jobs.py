"""`tailrace jobs`: what runs by the clock, when it does next, and one of them now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apps.cli.exits import DONE, FAILED, MISUSE, CommandError
from apps.cli.options import Json, terminal_of
from apps.cli.session import open_system

if TYPE_CHECKING:
    from jobs.job_files import Job
    from jobs.job_runs import JobRun

app = typer.Typer(no_args_is_help=True, help="What runs by the clock: list, run, next.")

Name = Annotated[str, typer.Argument(metavar="JOB", help="Its file's name without .job.json, or the name in it.")]


@app.command("list")
def list_(context: typer.Context, json: Json = False) -> None:
    """All jobs: their schedules, when they are due, and how the last run here ended. `tailrace up` runs what is due."""
    from apps.cli.views.jobs import job_table
    from jobs.job_files import jobs
    from jobs.job_runs import Runs

    terminal = terminal_of(context)
    system = open_system()
    found = jobs(system.home)
    runs = Runs(system.home)
    now = datetime.now(UTC)
    shown = [
        (job, job.next_after(now) if job.is_due_by_clock else None, runs.last(job)) for job in found.found.values()
    ]
    terminal.show(job_table(shown, found.broken))
    terminal.emit({"jobs": [_document(*one) for one in shown], "broken": found.broken})


@app.command("next")
def next_(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="JOB", help="This one only.", show_default=False)] = None,
    count: Annotated[int, typer.Option("--count", min=1, max=1000, help="So many times of each.")] = 5,
    json: Json = False,
) -> None:
    """When jobs are due next."""
    from apps.cli.views.jobs import times_table
    from jobs.job_files import jobs

    terminal = terminal_of(context)
    found = jobs(open_system().home)
    chosen = [found.named(name)] if name else [job for job in found.found.values() if job.is_due_by_clock]
    if name and chosen[0].trigger is None:
        cause = f"{name} has no schedule that can be followed here"
        raise CommandError(cause, f"tailrace jobs run {name}", MISUSE)
    times = {job.key: _times(job, count) for job in chosen}
    terminal.show(times_table(times))
    terminal.emit({key: [one.isoformat() for one in due] for key, due in times.items()})


@app.command()
def run(context: typer.Context, name: Name, json: Json = False) -> None:
    """Run one now, to its end. Its output goes to a log in the home."""
    from apps.cli.views.jobs import run_table
    from jobs.job_files import jobs
    from jobs.job_runs import Runs
    from jobs.processes import last_lines

    terminal = terminal_of(context)
    system = open_system()
    job = jobs(system.home).named(name)
    with terminal.working(f"running {job.key}"):
        done = Runs(system.home).run(job, "asked")
    terminal.show(run_table(done))
    terminal.emit(done.document())
    if not done.ok:
        from pathlib import Path

        from rich.text import Text

        terminal.note(Text(last_lines(Path(done.log)), style="quiet"))
    raise typer.Exit(DONE if done.ok else FAILED)


def _times(job: Job, count: int) -> list[datetime]:
    found: list[datetime] = []
    moment: datetime | None = datetime.now(UTC)
    while moment is not None and len(found) < count:
        moment = job.next_after(moment)
        if moment is not None:
            found.append(moment)
            moment += timedelta(microseconds=1)
    return found


def _document(job: Job, due: datetime | None, last: JobRun | None) -> dict[str, Any]:
    settings = job.settings
    return {
        "job": job.key,
        "name": settings.name,
        "file": str(job.path),
        "schedule": None if settings.schedule is None else settings.schedule.model_dump(),
        "trigger": None if settings.trigger is None else settings.trigger.model_dump(),
        "paused": job.paused,
        "always": job.is_always,
        "next": None if due is None else due.isoformat(),
        "last": None if last is None else last.document(),
    }
