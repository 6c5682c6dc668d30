"""Instances in real processes, killed and stopped for longer than a lease under load. Read by deltalake, not by us."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bus.fold import INSTANCE_CHANGED
from bus.log.bus import LogBus
from bus.log.table import DeltaLog
from schemas.envelope import Message
from schemas.tables import AGENT_MESSAGES
from tests.contract.harness import Ping, message, read_rows

PATIENCE = 60.0


class Instances:
    """Processes of one agent over one log, none of them left behind; `began` is what each said it began."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.table = DeltaLog(folder / "agent_messages", AGENT_MESSAGES)
        self.table.create()
        self.bus = LogBus(self.table)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.sent: list[Message] = []

    def start(self, count: int = 1, *, wait: bool = True) -> None:
        for _ in range(count):
            path = self._log(len(self.processes))
            with open(path, "wb") as log, open(path.with_suffix(".err"), "wb") as errors:
                command = [sys.executable, "-m", "tests.contract.instance_host", str(self.folder)]
                self.processes.append(subprocess.Popen(command, stdout=log, stderr=errors))
        for place in range(len(self.processes) if wait else 0):
            self.until(lambda place=place: "ready" in self._log(place).read_text())

    def _log(self, place: int) -> Path:
        return self.folder / f"instance{place}.log"

    def began(self, place: int) -> list[int]:
        return [int(line) for line in self._log(place).read_text().splitlines() if line.isdecimal()]

    def send(self, count: int, conversations: int = 60) -> None:
        first = len(self.sent)
        fresh = [message(Ping(n=n), conversation=f"c{n % conversations}") for n in range(first, first + count)]
        for future in [self.bus.submit([one]) for one in fresh]:
            future.result(PATIENCE)
        self.sent += fresh

    def feed(self) -> None:
        """Send more when little is left."""
        if self.open < 10:
            self.send(30)

    @property
    def open(self) -> int:
        self.bus.catch_up()
        return len(self.bus.state.open)

    def leases(self) -> list[str]:
        self.bus.catch_up()
        return list(self.bus.state.leases)

    def until(self, condition: Callable[[], Any]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, [path.read_text()[-1500:] for path in self.folder.glob("*.err")]
            time.sleep(0.01)

    def signal(self, place: int, number: signal.Signals) -> None:
        self.processes[place].send_signal(number)

    def facts(self, step: str) -> list[dict[str, Any]]:
        rows = read_rows(self.folder / "agent_messages")
        facts = [json.loads(row["content"]) for row in rows if row["kind"] == INSTANCE_CHANGED]
        return [fact for fact in facts if fact["step"] == step]

    def check(self) -> None:
        """One receipt and one response each, in the order of their conversation."""
        rows = read_rows(self.folder / "agent_messages")
        place = {m.message_id: (m.correlation_id, json.loads(m.content)["n"]) for m in self.sent}
        for kind in ("Receipt", "Pong"):
            found = [row for row in rows if row["kind"] == kind]
            assert Counter(row["causation_id"] for row in found) == dict.fromkeys(place, 1)
            order = defaultdict(list)
            for row in found:
                conversation, n = place[row["causation_id"]]
                order[conversation].append(n)
            assert all(numbers == sorted(numbers) for numbers in order.values())

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.bus.close()


@pytest.fixture
def instances(tmp_path: Path) -> Iterator[Instances]:
    made = Instances(tmp_path)
    yield made
    made.close()


def test_killed_under_load_the_rest_is_taken_over(instances: Instances) -> None:
    instances.start(2)
    instances.send(600)
    instances.until(lambda: len(instances.began(0)) > 40 and len(instances.began(1)) > 40)
    instances.signal(0, signal.SIGKILL)
    instances.processes[0].wait(PATIENCE)
    before = len(instances.began(0))
    instances.until(lambda: instances.open == 0)
    assert before < 400
    # Only what was under way where it died was begun twice.
    began = Counter(instances.began(0) + instances.began(1))
    assert set(began) == set(range(600))
    assert sum(count - 1 for count in began.values()) <= 300
    instances.check()
    assert len(instances.leases()) == 1


def test_stopped_for_longer_than_a_lease_and_then_continued(instances: Instances) -> None:
    instances.start(2)
    instances.send(600)
    instances.until(lambda: len(instances.began(0)) > 40 and len(instances.began(1)) > 40)
    instances.signal(0, signal.SIGSTOP)
    before = len(instances.began(0))
    instances.until(lambda: instances.open == 0)
    assert len(instances.began(0)) == before
    (ended,) = instances.facts("ended")
    instances.signal(0, signal.SIGCONT)
    instances.until(lambda: len(instances.leases()) == 2 and ended["instance"] not in instances.leases())
    # What was waiting in its inbox is not begun again; it shares what comes, under its new name.
    assert len(instances.began(0)) - before <= 8
    instances.send(200)
    instances.until(lambda: instances.open == 0)
    assert len([n for n in instances.began(0) if n >= 600]) > 20
    instances.check()


def test_a_restart_waits_for_no_lease_and_a_third_joins_and_the_second_leaves(instances: Instances) -> None:
    instances.start()
    instances.send(50)
    instances.until(lambda: instances.open == 0)
    instances.signal(0, signal.SIGKILL)
    instances.processes[0].wait(PATIENCE)
    instances.send(50)
    instances.start()
    instances.until(lambda: instances.open == 0)
    (ended,) = instances.facts("ended")
    assert ended["number"] == 0  # nobody had renewed, nobody had been waited for
    # Now nobody fails: what is begun while one joins and another leaves is begun once.
    instances.start(wait=False)
    instances.until(lambda: len(instances.began(2)) > 20 or instances.feed())
    instances.signal(1, signal.SIGTERM)
    instances.until(lambda: instances.processes[1].poll() is not None or instances.feed())
    assert instances.processes[1].returncode == 0
    instances.until(lambda: instances.open == 0)
    if len(instances.facts("ended")) == 1:  # a machine under load may fail to renew in so short a time
        began = Counter(instances.began(0) + instances.began(1) + instances.began(2))
        assert began == dict.fromkeys(range(len(instances.sent)), 1)
    instances.check()
