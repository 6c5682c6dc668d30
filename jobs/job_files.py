"""Jobs as files: `<name>.job.json` holds the settings of a Databricks job, which the local scheduler follows too."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger
from pydantic import BaseModel, Field, ValidationError

from bus.home import Home
from jobs import quartz

ENDING = ".job.json"
#: The jobs that come with Tailrace. One of the same name in `TAILRACE_HOME/jobs` takes its place.
SHIPPED = Path(__file__).parent
#: What the process beside the hosts does all the time: hundreds of entries a second cannot wait for a clock.
ALWAYS = ("upkeep",)
#: Periodic triggers are aligned to this, so that neither a restart nor another process moves them.
_ANCHOR = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday


class BadJob(ValueError):
    """A job file that cannot be followed; the message names the file and the field."""


class WheelTask(BaseModel):
    package_name: str
    entry_point: str
    parameters: list[str] = []
    named_parameters: dict[str, str] = {}


class Before(BaseModel):
    task_key: str


class Task(BaseModel):
    """Other fields are Databricks' own: where it runs, what is installed there."""

    task_key: str
    python_wheel_task: WheelTask | None = None
    depends_on: list[Before] = []
    max_retries: int = Field(default=0, ge=0)
    timeout_seconds: int = Field(default=0, ge=0)


class Schedule(BaseModel):
    quartz_cron_expression: str
    timezone_id: str = "UTC"
    pause_status: Literal["PAUSED", "UNPAUSED"] = "UNPAUSED"


class Periodic(BaseModel):
    interval: int = Field(ge=1)
    unit: Literal["HOURS", "DAYS", "WEEKS"]


class Trigger(BaseModel):
    periodic: Periodic | None = None
    pause_status: Literal["PAUSED", "UNPAUSED"] = "UNPAUSED"


class JobSettings(BaseModel):
    name: str
    tasks: list[Task] = Field(min_length=1)
    schedule: Schedule | None = None
    trigger: Trigger | None = None
    max_concurrent_runs: int = Field(default=1, ge=1)


@dataclass(frozen=True)
class Job:
    """`key`: the name of its file."""

    key: str
    path: Path
    settings: JobSettings

    @cached_property
    def trigger(self) -> BaseTrigger | None:
        """None: it runs only when somebody says so. Raises BadJob."""
        schedule, trigger = self.settings.schedule, self.settings.trigger
        if schedule is not None:
            try:
                return quartz.trigger(schedule.quartz_cron_expression, ZoneInfo(schedule.timezone_id))
            except quartz.BadExpression as error:
                raise BadJob(f"{self.path}: schedule.quartz_cron_expression: {error}") from error
            except (ZoneInfoNotFoundError, ValueError) as error:
                raise BadJob(f"{self.path}: schedule.timezone_id: there is no zone {schedule.timezone_id}") from error
        if trigger is not None and trigger.periodic is not None:
            every = timedelta(**{trigger.periodic.unit.lower(): trigger.periodic.interval})
            return IntervalTrigger(seconds=int(every.total_seconds()), start_date=_ANCHOR, timezone=UTC)
        return None

    @property
    def paused(self) -> bool:
        said = self.settings.schedule or self.settings.trigger
        return said is not None and said.pause_status == "PAUSED"

    @property
    def is_always(self) -> bool:
        """Whether it is done all the time here, whatever its schedule says."""
        return self.key in ALWAYS

    @property
    def is_due_by_clock(self) -> bool:
        """Whether the local scheduler runs it."""
        return self.trigger is not None and not self.paused and not self.is_always

    def next_after(self, moment: datetime) -> datetime | None:
        """When it is due next. Raises BadJob."""
        return None if self.trigger is None else self.trigger.get_next_fire_time(None, moment)

    def ordered(self) -> list[Task]:
        """The tasks, each after those it depends on. Raises BadJob."""
        waiting = {task.task_key: task for task in self.settings.tasks}
        if len(waiting) != len(self.settings.tasks):
            raise BadJob(f"{self.path}: tasks: two of them have the same task_key")
        known, found = set(waiting), []
        for task in self.settings.tasks:
            for one in task.depends_on:
                if one.task_key not in known:
                    raise BadJob(f"{self.path}: tasks.{task.task_key}.depends_on: there is no task {one.task_key}")
        while waiting:
            ready = [t for t in waiting.values() if not any(b.task_key in waiting for b in t.depends_on)]
            if not ready:
                raise BadJob(f"{self.path}: tasks: {', '.join(waiting)} wait for each other")
            for task in ready:
                found.append(waiting.pop(task.task_key))
        return found

    def command(self, task: Task) -> tuple[str, list[str]]:
        """(`module:function` to call, its arguments). Raises BadJob for what cannot run here."""
        place = f"{self.path}: tasks.{task.task_key}"
        wheel = task.python_wheel_task
        if wheel is None:
            raise BadJob(f"{place}: only python_wheel_task runs here")
        arguments = [*wheel.parameters, *(f"--{name}={value}" for name, value in wheel.named_parameters.items())]
        if unknown := [one for one in arguments if "{{" in one]:
            raise BadJob(f"{place}: {unknown[0]} is a reference that only Databricks resolves")
        try:
            points = distribution(wheel.package_name).entry_points
        except PackageNotFoundError as error:
            raise BadJob(f"{place}: the package {wheel.package_name} is not installed here") from error
        for point in points:
            if point.name == wheel.entry_point:
                return point.value, arguments
        raise BadJob(f"{place}: the package {wheel.package_name} has no entry point {wheel.entry_point}")


class Jobs(NamedTuple):
    """`broken`: files that cannot be followed, and why; they keep no other from running."""

    found: dict[str, Job]
    broken: dict[str, str]

    def named(self, name: str) -> Job:
        """By key or by the name in its settings. Raises BadJob."""
        for job in self.found.values():
            if name in (job.key, job.settings.name):
                return job
        if reason := self.broken.get(name):
            raise BadJob(reason)
        raise BadJob(f"there is no job {name}; there are {', '.join(sorted({*self.found, *self.broken})) or 'none'}")


def jobs(home: Home) -> Jobs:
    """All of them by key, checked as far as they can be without running them."""
    found, broken = {}, {}
    for path in _paths((SHIPPED, home.root / "jobs")):
        try:
            job = read(path)
            job.next_after(datetime.now(UTC))
            for task in job.ordered():
                job.command(task)
        except BadJob as error:
            broken[path.name.removesuffix(ENDING)] = str(error)
        else:
            found[job.key] = job
    return Jobs(found, broken)


def _paths(folders: Iterable[Path]) -> list[Path]:
    found = {path.name: path for folder in folders for path in sorted(folder.glob(f"*{ENDING}"))}
    return [found[name] for name in sorted(found)]


def read(path: Path) -> Job:
    """Raises BadJob."""
    try:
        settings = JobSettings.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise BadJob(f"{path}: {where}: {first['msg']}") from error
    except (ValueError, OSError) as error:
        raise BadJob(f"{path}: {error}") from error
    return Job(path.name.removesuffix(ENDING), path, settings)
