"""Tailrace as a contestant: the product's client in one process, its host in another."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pyarrow.compute as pc

from bus.log.entry import entry_path
from bus.log.store import Durability
from jobs.bench.contestant import Contestant, Sender, python
from jobs.bench.echo import Ping, agent
from jobs.bench.home import BenchSystem
from jobs.bench.lane import NoReceipts
from jobs.bench.work import BATCH
from schemas.tables import AGENT_MESSAGES


class ClientSender(Sender):
    def __init__(self, home: Path, durability: Durability, signed: bool, answer: bool) -> None:
        self._home, self._durability, self._signed, self._answer = home, durability, signed, answer

    def open(self) -> None:
        self._client = BenchSystem(self._home, self._durability, self._signed).sending_client()

    def one(self, number: int) -> None:
        self._client.send("Echo", Ping(number=number, answer=self._answer))

    def many(self, numbers: range) -> None:
        for start in range(numbers.start, numbers.stop, BATCH):
            part = range(start, min(start + BATCH, numbers.stop))
            self._client.send_many([("Echo", Ping(number=number, answer=self._answer)) for number in part])


class Tailrace(Contestant):
    """`answer`: each handling is a response and a receipt in one commit; without it a receipt alone.

    `home`: one that is there already, with whatever its log holds. `hosts`: processes that share the work.
    """

    def __init__(
        self,
        scratch: Path,
        engine: str = "tail",
        durability: Durability = "os",
        signed: bool = True,
        answer: bool = True,
        burst: int = 8000,
        home: Path | None = None,
        hosts: int = 1,
    ) -> None:
        words = [engine, durability, *([] if signed else ["unsigned"]), *([] if answer else ["receipts only"])]
        words += [f"{hosts} hosts"] if hosts > 1 else []
        self._hosts = hosts
        self.name = f"Tailrace ({', '.join(words)})"
        self.burst = burst
        self.slow = engine == "streaming"
        self.patience_s = 180.0 if self.slow else 60.0
        self._engine, self._durability, self._signed, self._answer = engine, durability, signed, answer
        self.home = home or scratch / "-".join(word.replace(" ", "-") for word in ("tailrace", *words))
        self._system = BenchSystem(self.home, durability, signed)
        self._marked = -1

    def prepare(self) -> None:
        self._system.make([agent()])

    def rows(self) -> int:
        """Rows in the log, by an independent reader."""
        from deltalake import DeltaTable

        table = DeltaTable(str(self._system.home.table(AGENT_MESSAGES.name)))
        return sum(table.get_add_actions(flatten=True)["num_records"].to_pylist())

    def sender(self) -> Sender:
        return ClientSender(self.home, self._durability, self._signed, self._answer)

    def workers(self, reports: Path) -> list[subprocess.Popen[bytes]]:
        signatures = "signed" if self._signed else "unsigned"
        words = (self.home, self._engine, self._durability, signatures, reports)
        return [python("jobs.bench.echo", *words) for _ in range(self._hosts)]

    def mark(self) -> None:
        self._marked = self._system.log(AGENT_MESSAGES.name).head()

    def finished(self, count: int, timeout: float) -> float:
        """By the log itself: the time of the entry that holds the last receipt."""
        log = self._system.log(AGENT_MESSAGES.name)
        deadline = time.monotonic() + timeout
        found = 0
        while time.monotonic() < deadline:
            for entry, rows in log.follow(self._marked):
                self._marked = entry.version
                found += pc.sum(pc.equal(rows["message_type"], "receipt")).as_py() or 0
                if found >= count:
                    return (self._system.home.table(AGENT_MESSAGES.name) / entry_path(entry.version)).stat().st_mtime
            time.sleep(0.005)
        raise NoReceipts(self.name, count - found, timeout)
