"""Running one job here: its tasks as processes, one run of a job at a time, and a note of the last run of each."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import structlog

from bus.home import Home
from jobs.job_files import Job, Task

log = structlog.get_logger(__name__)

Reason = Literal["asked", "scheduled"]
#: Calls the function that an entry point names, as the script of that name would.
_CALL = "import sys; from importlib.metadata import EntryPoint; sys.exit(EntryPoint('', sys.argv.pop(1), '').load()())"
#: Seconds a task gets to end when it is told to.
PATIENCE_S = 10.0
#: Seconds between two looks whether it ended.
LOOK_S = 0.05


class JobRunning(RuntimeError):
    """The job runs already, and its settings allow one run at a time."""


@dataclass
class TaskRun:
    """`code`: None for a task that was not run, because one that it depends on failed."""

    task: str
    code: int | None = None
    attempts: int = 0
    seconds: float = 0.0
    timed_out: bool = False


@dataclass
class JobRun:
    """`started` and `ended` in seconds since 1970."""

    job: str
    reason: Reason
    started: float
    log: str
    ended: float | None = None
    tasks: list[TaskRun] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.ended is not None and all(one.code == 0 for one in self.tasks)

    def document(self) -> dict[str, Any]:
        return asdict(self) | {"ok": self.ok}


class Runs:
    """The runs of one home. `stop` ends what runs, from another thread."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._folder = home.run / "jobs"
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def last(self, job: Job) -> JobRun | None:
        """The newest run that was noted; one without an end is under way, or was cut off."""
        try:
            said = json.loads(self._note(job).read_text(encoding="utf-8"))
            said.pop("ok")
            return JobRun(**said | {"tasks": [TaskRun(**one) for one in said["tasks"]]})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def run(self, job: Job, reason: Reason) -> JobRun:
        """To its end. Raises JobRunning, BadJob or OSError."""
        with self._alone(job):
            self._home.logs.mkdir(parents=True, exist_ok=True)
            path = self._home.logs / f"job-{job.key}.log"
            done = JobRun(job.key, reason, time.time(), str(path))
            self._write(job, done)
            bad: set[str] = set()
            with open(path, "ab") as file:
                for task in job.ordered():
                    one = TaskRun(task.task_key)
                    done.tasks.append(one)
                    if not bad & {before.task_key for before in task.depends_on}:
                        self._try(job, task, one, file)
                    if one.code != 0:
                        bad.add(task.task_key)
                    self._write(job, done)
            done.ended = time.time()
            self._write(job, done)
            return done

    def _try(self, job: Job, task: Task, one: TaskRun, file: IO[bytes]) -> None:
        while True:
            one.attempts += 1
            began = time.monotonic()
            one.code, one.timed_out = self._once(job, task, file)
            one.seconds = round(time.monotonic() - began, 3)
            if one.code == 0 or one.attempts > task.max_retries or self._stopping.is_set():
                return
            log.warning("job.task_retried", job=job.key, task=task.task_key, code=one.code, attempt=one.attempts)

    def _once(self, job: Job, task: Task, file: IO[bytes]) -> tuple[int, bool]:
        place, arguments = job.command(task)
        # A session of its own, so that what the task starts ends with it.
        child = subprocess.Popen(
            [sys.executable, "-c", _CALL, place, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=os.environ | {"TAILRACE_HOME": str(self._home.root)},
            start_new_session=True,
        )
        deadline = time.monotonic() + task.timeout_seconds if task.timeout_seconds else float("inf")
        try:
            while child.poll() is None:
                if self._stopping.wait(LOOK_S) or time.monotonic() > deadline:
                    _end(child)
                    return child.returncode or 1, not self._stopping.is_set()
        except BaseException:
            _end(child)
            raise
        return child.returncode, False

    @contextmanager
    def _alone(self, job: Job) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with open(self._folder / f"{job.key}.lock", "w") as file:
            if job.settings.max_concurrent_runs == 1:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise JobRunning(f"the job {job.key} runs already in this home") from None
            yield

    def _note(self, job: Job) -> Path:
        return self._folder / f"{job.key}.json"

    def _write(self, job: Job, done: JobRun) -> None:
        scratch = self._folder / f"{job.key}.{os.getpid()}.{threading.get_ident()}.new"
        scratch.write_text(json.dumps(done.document(), indent=1), encoding="utf-8")
        os.replace(scratch, self._note(job))


def _end(child: subprocess.Popen[bytes]) -> None:
    """The task and whatever it started."""
    for number, patience in ((signal.SIGTERM, PATIENCE_S), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        try:
            child.wait(patience)
            return
        except subprocess.TimeoutExpired:
            continue
