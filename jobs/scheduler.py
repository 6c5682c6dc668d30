"""The local scheduler: runs the jobs of a home when their files say so, by APScheduler, in the process of the upkeep.

One scheduler a home and machine, because the upkeep has a lock. A run that is late because the one before took long, or the
process slept, is run once; so is one that was missed while nothing ran here.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import structlog
from apscheduler.events import EVENT_JOB_MAX_INSTANCES, JobSubmissionEvent
from apscheduler.schedulers.background import BackgroundScheduler

from bus.home import Home
from jobs.job_files import BadJob, Job, jobs
from jobs.job_runs import JobRunning, Runs

log = structlog.get_logger(__name__)


class JobScheduler:
    """A companion of the upkeep: `start`, and `stop`, which ends what runs."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._runs = Runs(home)
        self._scheduler = BackgroundScheduler(
            timezone=UTC, job_defaults={"max_instances": 1, "coalesce": True, "misfire_grace_time": None}
        )
        # It says the same in words of its own.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        self._scheduler.add_listener(_still_runs, EVENT_JOB_MAX_INSTANCES)

    def start(self) -> None:
        found = jobs(self._home)
        for reason in found.broken.values():
            log.error("job.broken", reason=reason)
        now = datetime.now(UTC)
        for job in found.found.values():
            if job.is_due_by_clock:
                due = self.missed(job, now)
                first = {"next_run_time": now} if due else {}
                self._scheduler.add_job(self._run, job.trigger, (job,), id=job.key, **first)
                log.info("job.scheduled", job=job.key, next=str(now if due else job.next_after(now)), missed=due)
        self._scheduler.start()

    def stop(self) -> None:
        """Idempotent."""
        self._runs.stop()
        if self._scheduler.running:
            self._scheduler.shutdown()

    def missed(self, job: Job, now: datetime) -> bool:
        """Whether it was due since its last run began. A job that never ran here has missed nothing."""
        last = self._runs.last(job)
        if last is None:
            return False
        due = job.next_after(datetime.fromtimestamp(last.started, UTC) + timedelta(seconds=1))
        return due is not None and due <= now

    def _run(self, job: Job) -> None:
        log.info("job.begun", job=job.key)
        try:
            done = self._runs.run(job, "scheduled")
        except (JobRunning, BadJob, OSError) as error:
            log.warning("job.not_run", job=job.key, reason=str(error))
            return
        say = log.info if done.ok else log.error
        say("job.done", job=job.key, ok=done.ok, codes={one.task: one.code for one in done.tasks}, log=done.log)


def _still_runs(event: JobSubmissionEvent) -> None:
    log.info("job.still_runs", job=event.job_id, skipped=[str(one) for one in event.scheduled_run_times])
