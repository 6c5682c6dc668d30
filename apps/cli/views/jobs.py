"""Jobs, their times and a run of one, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from apps.cli.terminal import ago, moment
from apps.cli.views.rows import plain_table
from apps.cli.views.safe import safe

if TYPE_CHECKING:
    from jobs.job_files import Job
    from jobs.job_runs import JobRun


def job_table(jobs: Sequence[tuple[Job, datetime | None, JobRun | None]], broken: Mapping[str, str]) -> RenderableType:
    table = plain_table("job", "schedule", "next", "last run")
    for job, due, last in jobs:
        table.add_row(safe(job.key), _schedule(job), _due(job, due), _ended(last))
    return Group(table, *(Text(safe(reason), style="bad") for reason in broken.values()))


def times_table(times: Mapping[str, Sequence[datetime]]) -> RenderableType:
    if not times:
        return Text("nothing is scheduled", style="quiet")
    table = plain_table("job", "due", "in", right=("in",))
    now = datetime.now(UTC)
    for key, due in times.items():
        for place, one in enumerate(due):
            table.add_row("" if place else safe(key), _local(one), ago((one - now).total_seconds()))
        if not due:
            table.add_row(safe(key), "never again", "")
    return table


def run_table(run: JobRun) -> RenderableType:
    table = plain_table("task", "ended", "attempts", "took", right=("attempts", "took"))
    for one in run.tasks:
        if one.code is None:
            said = Text("not run: what it depends on failed", style="quiet")
        elif one.code == 0:
            said = Text("done", style="good")
        else:
            said = Text("took too long" if one.timed_out else f"exit code {one.code}", style="bad")
        table.add_row(safe(one.task), said, str(one.attempts or ""), ago(one.seconds) if one.attempts else "")
    return Group(table, Text(f"output: {safe(run.log)}", style="quiet"))


def _schedule(job: Job) -> Text:
    schedule, trigger = job.settings.schedule, job.settings.trigger
    if schedule is not None:
        return Text(safe(f"{schedule.quartz_cron_expression} {schedule.timezone_id}"))
    if trigger is not None and trigger.periodic is not None:
        unit = trigger.periodic.unit.lower()
        every = trigger.periodic.interval
        return Text(f"every {unit[:-1]}" if every == 1 else f"every {every} {unit}")
    return Text("none that is followed here", style="quiet")


def _due(job: Job, due: datetime | None) -> Text:
    if job.is_always:
        return Text("all the time, by tailrace up", style="quiet")
    if job.paused:
        return Text("paused", style="warn")
    return Text("" if due is None else _local(due))


def _ended(last: JobRun | None) -> Text:
    if last is None:
        return Text("never", style="quiet")
    when = moment(round(last.started * 1e6))
    if last.ended is None:
        return Text(f"{when}, under way or cut off", style="warn")
    return Text(f"{when}, {'done' if last.ok else 'failed'}", style="good" if last.ok else "bad")


def _local(when: datetime) -> str:
    return moment(round(when.timestamp() * 1e6))
