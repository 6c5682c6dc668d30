"""One contestant at work: its sender in one process, its workers in others, and a clock that all of them share."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType

from jobs.bench.contestant import Contestant, Sender
from jobs.bench.cost import cpu_seconds
from jobs.bench.work import NoWord, Reports

#: Seconds a worker gets to leave.
PATIENCE_S = 15.0
#: Seconds that a message sent to a worker that may still be starting is waited for.
LOOK_S = 3.0


class NoReceipts(RuntimeError):
    """Messages were handled, and their receipts did not come."""

    def __init__(self, name: str, missing: int, timeout: float) -> None:
        super().__init__(f"{name}: {missing} receipts did not come within {timeout:g} s")


@dataclass(frozen=True)
class Rate:
    """A burst, from the first message sent until the last one's receipt was there."""

    messages: int
    seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.messages / self.seconds

    @property
    def cpu_per_thousand(self) -> float:
        return self.cpu_seconds / self.messages * 1000


class Lane:
    """A context manager: inside, the contestant is started and warm."""

    def __init__(self, contestant: Contestant, scratch: Path, first: int) -> None:
        self._contestant = contestant
        self._reports = Reports(scratch / f"reports-{first}")
        self._next = first
        self._workers: list[subprocess.Popen[bytes]] = []
        self.pids: list[int] = []
        #: Seconds from starting the workers until the first message was handled.
        self.ready_s = 0.0

    def __enter__(self) -> Lane:
        started = time.monotonic()
        self._workers = self._contestant.workers(self._reports.pipe)
        self._processes = ProcessPoolExecutor(
            1, mp_context=get_context("spawn"), initializer=_open, initargs=(self._contestant.sender(),)
        )
        try:
            sender = self._processes.submit(os.getpid).result()
            self.pids = [sender, *(worker.pid for worker in self._workers), *self._contestant.servers()]
            self._first(started + self._contestant.patience_s)
            self.ready_s = time.monotonic() - started
            for _ in range(5):
                self._hop()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            if worker.stdin is not None:
                worker.stdin.close()
            else:
                worker.send_signal(signal.SIGTERM)
        self._processes.shutdown()
        for worker in self._workers:
            try:
                worker.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()
        self._reports.__exit__(kind, error, trace)

    def _first(self, deadline: float) -> None:
        """Until a message is handled. Whoever looks only for what is new may have missed those sent before it looked."""
        while True:
            try:
                self._hop(LOOK_S)
                return
            except NoWord:
                if time.monotonic() > deadline:
                    raise

    def hops(self, count: int) -> list[float]:
        """Milliseconds from just before a message is sent until its handler begins, one at a time on an idle system."""
        return [self._hop() for _ in range(count)]

    def _hop(self, timeout: float = 30.0) -> float:
        # Not in step with anybody who polls.
        time.sleep(random.uniform(0.005, 0.025))
        number = self._next
        self._next += 1
        sent = self._processes.submit(_one, number).result()
        return (self._reports.begun(number, timeout) - sent) / 1e6

    def rate(self, count: int, timeout: float = 300.0) -> Rate:
        """Send `count` messages and wait for their receipts."""
        numbers = range(self._next, self._next + count)
        self._next += count
        self._contestant.mark()
        cpu = cpu_seconds(self.pids)
        sending = self._processes.submit(_many, numbers)
        self._reports.all_begun(numbers, timeout)
        started = sending.result()
        finished = self._contestant.finished(count, timeout)
        return Rate(count, finished - started, cpu_seconds(self.pids) - cpu)


# --- in the sender's process -------------------------------------------------------------------------------------------

_sender: Sender


def _open(sender: Sender) -> None:
    global _sender  # noqa: PLW0603  # the pool's only process has only this
    _sender = sender
    sender.open()


def _one(number: int) -> int:
    started = time.monotonic_ns()
    _sender.one(number)
    return started


def _many(numbers: range) -> float:
    started = time.time()
    _sender.many(numbers)
    return started
