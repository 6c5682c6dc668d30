"""dramatiq on Redis: its own command runs the workers; it has no way to enqueue many at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from jobs.bench.contestant import Contestant, Sender
from jobs.bench.lane import NoReceipts
from jobs.bench.servers import Missing, Redis
from jobs.bench.work import body

#: Milliseconds that an idle worker sleeps at most between two looks: as it comes, and as somebody sets it who wants quick hops
#: and has the processor time to look two hundred times a second in each process.
USUAL_MS, HASTY_MS = 1000, 5


def make_actor(url: str, begun: Any = lambda _: None) -> Any:
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    dramatiq.set_broker(RedisBroker(url=url))

    @dramatiq.actor(actor_name="ping", queue_name="bench")
    def ping(number: int, **_: Any) -> None:
        begun(number)

    return ping


class ActorSender(Sender):
    def __init__(self, url: str) -> None:
        self._url = url

    def open(self) -> None:
        self._actor = make_actor(self._url)

    def one(self, number: int) -> None:
        self._actor.send(**body(number))

    def many(self, numbers: range) -> None:
        for number in numbers:
            self.one(number)


class Dramatiq(Contestant):
    """`threads` in each of `processes`; `hasty`: idle workers look every few milliseconds."""

    def __init__(
        self, server: Redis, threads: int = 8, processes: int = 1, burst: int = 2500, hasty: bool = False
    ) -> None:
        self.name = "dramatiq, hasty" if hasty else "dramatiq"
        self._timeout_ms = HASTY_MS if hasty else USUAL_MS
        self.how = f"{processes} process{'es' if processes > 1 else ''} of {threads} threads"
        self.burst = burst
        self._server, self._threads, self._processes = server, threads, processes

    def hasty(self) -> Dramatiq:
        """The same, in a hurry."""
        return Dramatiq(self._server, self._threads, self._processes, self.burst, hasty=True)

    def prepare(self) -> None:
        try:
            import dramatiq.brokers.redis  # noqa: F401  # only to see that it is there
        except ImportError:
            raise Missing("dramatiq is not installed: pip install 'tailrace[bench]'") from None

    def sender(self) -> Sender:
        return ActorSender(self._server.url)

    def workers(self, reports: Path) -> list[subprocess.Popen[bytes]]:
        environment = os.environ | {
            "BENCH_REDIS": self._server.url,
            "BENCH_REPORTS": str(reports),
            "dramatiq_worker_timeout": str(self._timeout_ms),
        }
        command = [sys.executable, "-m", "dramatiq", "jobs.bench.rivals.dramatiq_worker", "--skip-logging"]
        sizes = ["--processes", str(self._processes), "--threads", str(self._threads)]
        return [
            subprocess.Popen(
                [*command, *sizes],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        ]

    def servers(self) -> list[int]:
        return [self._server.pid]

    def finished(self, count: int, timeout: float) -> float:
        import redis

        deadline = time.monotonic() + timeout
        with redis.Redis.from_url(self._server.url) as line:
            while line.hlen("dramatiq:bench.msgs"):
                if time.monotonic() > deadline:
                    raise NoReceipts(self.name, count, timeout)
                time.sleep(0.005)
            return time.time()
