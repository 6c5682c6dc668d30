"""Hosts as child processes: start what is missing, wait until it is ready, stop what was started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from jobs.agents import HOSTS, Agent, agents_of, find
from jobs.bootstrap import System
from jobs.liveness import Running, processes, running

Say = Callable[[str], None]

#: Seconds a host gets to drain before it is killed.
PATIENCE_S = 25.0


class HostFailed(RuntimeError):
    """A host ended, or was not ready in time; the message ends with the last lines of its log."""


@dataclass(frozen=True)
class Child:
    """A host this process started, for these agents."""

    host: str
    process: subprocess.Popen[bytes]
    log: Path
    agents: tuple[str, ...]


class Processes:
    """The hosts of a home. As a context manager it stops what it started."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.children: list[Child] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def running(self) -> dict[str, Running]:
        return running(self._system.home)

    def everyone(self) -> list[Running]:
        """Every process that runs an agent; an agent may have several."""
        return processes(self._system.home)

    def missing_hosts(self) -> list[str]:
        """Hosts of which at least one agent runs nowhere on this machine."""
        there = self.running()
        return [host for host in HOSTS if any(agent.name not in there for agent in agents_of(host))]

    def missing_instances(self, wanted: Mapping[str, int]) -> dict[str, int]:
        """How many more instances of each agent make those that are wanted; one runs in the agent's own host anyway."""
        there = Counter(one.agent for one in self.everyone())
        missing = {name: count - max(1, there[name]) for name, count in wanted.items()}
        return {name: count for name, count in missing.items() if count > 0}

    def start(
        self, hosts: Sequence[str], engine: str, warm: bool = True, instances: Mapping[str, int] | None = None
    ) -> list[Child]:
        """Start these hosts; each runs the agents of it that run nowhere yet. `warm=False`: Spark only when it is needed.

        `instances`: how many of an agent are wanted; each beyond the first is a process of its own.
        """
        self._system.check_engine(engine)
        more = self.missing_instances(instances or {})
        there = self.running()
        started = []
        for host in hosts:
            agents = [agent for agent in agents_of(host) if agent.name not in there]
            if agents:
                started.append(self._spawn(host, agents, engine, warm))
        for name, count in more.items():
            agent = find(name)
            started += [
                self._spawn(agent.host, [agent], engine, warm, f"-{agent.short}-{n}") for n in range(2, 2 + count)
            ]
        self.children += started
        return started

    def _spawn(self, host: str, agents: Sequence[Agent], engine: str, warm: bool, suffix: str = "") -> Child:
        home = self._system.home
        home.logs.mkdir(parents=True, exist_ok=True)
        log = home.logs / f"{host}{suffix}.log"
        names = [agent.short for agent in agents]
        words = ["jobs.run_worker", *names, *([] if warm else ["--cold"])]
        return Child(host, self._launch(words, log, engine), log, tuple(agent.name for agent in agents))

    def start_upkeep(self, engine: str) -> None:
        """What keeps the tables in shape, in a process of its own; it waits while another one here does that."""
        log = self._system.home.logs / "upkeep.log"
        self.children.append(Child("upkeep", self._launch(["jobs.upkeep"], log, engine), log, ()))

    def _launch(self, words: Sequence[str], log: Path, engine: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {"TAILRACE_HOME": str(self._system.home.root), "TAILRACE_ENGINE": engine}
        command = [sys.executable, "-m", *words]
        with open(log, "ab") as file:
            # A session of its own: Ctrl-C in the terminal reaches the parent, which then lets its hosts drain.
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment, start_new_session=True
            )

    def wait_ready(self, timeout: float = 120.0, say: Say = lambda _: None) -> None:
        """Until every agent of the started hosts is warmed up. Raises HostFailed."""
        deadline = time.monotonic() + timeout
        waiting = {(child.process.pid, agent) for child in self.children for agent in child.agents}
        while waiting:
            for child in self.children:
                if child.process.poll() is not None:
                    raise HostFailed(
                        f"host {child.host} ended with code {child.process.returncode}:\n{last_lines(child.log)}"
                    )
            ready = waiting & {(one.pid, one.agent) for one in self.everyone() if one.ready}
            for _, name in sorted(ready):
                say(name)
            waiting -= ready
            if waiting and time.monotonic() > deadline:
                logs = "\n".join(last_lines(child.log) for child in self.children)
                raise HostFailed(f"not ready after {timeout:g} s: {', '.join(sorted(n for _, n in waiting))}\n{logs}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Let all drain at once; kill who does not. Idempotent."""
        for child in self.children:
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE_S
        for child in self.children:
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(child.process.pid, signal.SIGKILL)
                child.process.wait()
        self.children.clear()


def last_lines(log: Path, count: int = 15) -> str:
    """How a log ends."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-count:]) if log.exists() else "(no log)"
