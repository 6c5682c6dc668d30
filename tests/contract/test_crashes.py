"""Real processes, really killed: what was acknowledged is there, once, and handled once. Read by deltalake, not by us."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bus.log.bus import LogBus
from bus.log.store import Location, within
from tests.contract import crash_host
from tests.contract.harness import Ping, message, read_rows

PATIENCE = 60.0


class Hosts:
    """Processes, each with its point of death, and none left behind."""

    def __init__(self, folder: Path, place: Location | None = None) -> None:
        """`folder` holds what they say; `place` the tables, when they are elsewhere."""
        self._folder = folder
        self._place = folder if place is None else place
        self._running: list[subprocess.Popen[bytes]] = []
        self._logs: dict[int, Path] = {}

    def start(self, point: str = "never", after: int = 0) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.contract.crash_host", str(self._place), point, str(after)]
        path = self._folder / f"host{len(self._logs)}.log"
        with open(path, "wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        self._logs[process.pid] = path
        self._running.append(process)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGKILL)
        assert process.wait(PATIENCE) == -signal.SIGKILL
        self._running.remove(process)

    def died(self, process: subprocess.Popen[bytes]) -> bool:
        if process.poll() is None:
            return False
        self._running.remove(process)
        assert process.returncode == -signal.SIGKILL, self.said()
        return True

    def stop(self) -> None:
        """As an operator does; a process that has not begun yet is given the time to."""
        until(lambda: all("ready" in self._logs[process.pid].read_text() for process in self._running), self)
        for process in self._running:
            process.terminate()
        codes = [process.wait(PATIENCE) for process in self._running]
        self._running.clear()
        assert codes == [0] * len(codes), self.said()

    def said(self) -> str:
        return "\n".join(log.read_text()[-1500:] for log in self._logs.values())

    def bury(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    crash_host.source(tmp_path).create()
    crash_host.events(tmp_path).create()
    made = Hosts(tmp_path)
    yield made
    made.bury()


def until(condition: Callable[[], Any], hosts: Hosts) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, hosts.said()
        time.sleep(0.02)


class Producer:
    """Sends from this process, and remembers what was acknowledged."""

    def __init__(self, place: Location) -> None:
        self.bus = LogBus(crash_host.source(place))
        self.acknowledged: list[str] = []

    def send(self, count: int) -> None:
        sent = [message(Ping(n=n), conversation=f"c{n % 7}") for n in range(count)]
        futures = [self.bus.submit([one]) for one in sent]
        for one, future in zip(sent, futures, strict=True):
            future.result(PATIENCE)
            self.acknowledged.append(one.message_id)

    @property
    def open(self) -> int:
        self.bus.catch_up()
        return len(self.bus.state.open)


def check(place: Location, acknowledged: list[str]) -> None:
    rows = read_rows(within(place, "agent_messages"))
    assert Counter(r["message_id"] for r in rows if r["message_type"] == "request") == dict.fromkeys(acknowledged, 1)
    assert max(Counter(row["message_id"] for row in rows).values()) == 1
    receipts = {row["causation_id"]: row for row in rows if row["message_type"] == "receipt"}
    assert Counter(r["causation_id"] for r in rows if r["message_type"] == "receipt") == dict.fromkeys(acknowledged, 1)
    for kind in ("Pong", "Rang"):
        outputs = [row for row in rows if row["kind"] == kind]
        assert Counter(row["causation_id"] for row in outputs) == dict.fromkeys(acknowledged, 1)
        for row in outputs:
            receipt = receipts[row["causation_id"]]
            assert (row["log_version"], row["handling_id"]) == (receipt["log_version"], receipt["handling_id"])
    said = Counter((row["log_version"], row["seq"]) for row in rows if row["message_type"] == "event")
    projected = Counter((row["log_version"], row["seq"]) for row in read_rows(within(place, "agent_events")))
    assert projected == said
    names = crash_host.source(place).store.names("_delta_log")
    versions = sorted(int(name.removesuffix(".json")) for name in names if name.endswith(".json"))
    assert versions == list(range(len(versions)))


@pytest.mark.parametrize("point", crash_host.POINTS)
def test_killed_at_a_point(tmp_path: Path, hosts: Hosts, point: str) -> None:
    producer = Producer(tmp_path)
    dying = hosts.start(point, after=3)
    producer.send(5)
    until(lambda: hosts.died(dying) or (not producer.open and producer.send(3)), hosts)
    producer.send(5)
    hosts.start()
    until(lambda: producer.open == 0, hosts)
    hosts.stop()
    producer.bus.close()
    check(tmp_path, producer.acknowledged)


@pytest.mark.timeout(240)
def test_two_hosts_under_load_killed_at_random(tmp_path: Path, hosts: Hosts) -> None:
    luck = random.Random(7)
    producer = Producer(tmp_path)
    running = [hosts.start(), hosts.start()]
    for _ in range(4):
        producer.send(60)
        target = luck.randrange(1, 50)
        until(lambda target=target: producer.open <= target, hosts)
        place = luck.randrange(2)
        hosts.kill(running[place])
        running[place] = hosts.start()
    until(lambda: producer.open == 0, hosts)
    hosts.stop()
    producer.bus.close()
    check(tmp_path, producer.acknowledged)


def test_the_producer_itself_killed_loses_nothing_it_was_told(tmp_path: Path, hosts: Hosts) -> None:
    """Whoever reads `acknowledged` on its output before it dies finds the message in the log."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.contract.test_crashes import Producer\n"
        "producer = Producer(Path(sys.argv[1]))\n"
        "while True:\n"
        "    producer.send(1)\n"
        "    print(producer.acknowledged[-1], flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    told = [process.stdout.readline().decode().strip() for _ in range(30)]
    process.kill()
    told += [line.decode().strip() for line in process.stdout.readlines() if line.endswith(b"\n")]
    process.wait()
    process.stdout.close()
    ids = [row["message_id"] for row in read_rows(tmp_path / "agent_messages")]
    assert ids[: len(told)] == told
    assert len(ids) - len(told) in (0, 1)
    hosts.start()
    producer = Producer(tmp_path)
    until(lambda: producer.open == 0, hosts)
    hosts.stop()
    producer.bus.close()
    check(tmp_path, ids)
