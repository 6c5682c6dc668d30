"""The hosts a conversation needs: started when a message waits for an agent that runs nowhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from apps.cli.timeline import Timeline

if TYPE_CHECKING:
    from jobs.bootstrap import System

#: What governance has let run is executed next, so that host starts while governance still decides.
FOLLOWS = {"governance": "execution"}


class Hosts:
    """As a context manager it stops what it started, and nothing else. `may_start=False`: only looks."""

    def __init__(
        self,
        system: System,
        engine: str = "tail",
        *,
        may_start: bool = True,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        from jobs.processes import Processes

        self._processes = Processes(system)
        self._engine = engine
        self._may_start = may_start
        self.say = say

    def __enter__(self) -> Hosts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self._processes.stop()

    @property
    def started(self) -> bool:
        """Whether there is something to stop."""
        return bool(self._processes.children)

    def runs(self, agent: str) -> bool:
        return agent in self._processes.running()

    def start(self, hosts: Sequence[str]) -> None:
        """Start these; they get ready by themselves."""
        self._processes.start(hosts, self._engine)

    def wait_ready(self, agents: Iterable[str], timeout: float, say: Callable[[str], None]) -> None:
        """Until these agents are ready. Raises HostFailed when a host that was started ended, or time is over."""
        wanted, deadline = set(agents), time.monotonic() + timeout
        while True:
            self._bury()
            waiting = sorted(wanted - {name for name, one in self._processes.running().items() if one.ready})
            if not waiting:
                return
            say(", ".join(waiting))
            if time.monotonic() > deadline:
                self._processes.wait_ready(0.0)
            time.sleep(0.1)

    def missing(self) -> list[str]:
        return self._processes.missing_hosts()

    def tend(self, timeline: Timeline) -> None:
        """Start what this conversation's open messages wait for. Raises HostFailed when a started host ended."""
        if not self._may_start:
            return
        needed = self._needed(agent for _, agent in timeline.open())
        if not needed and not self._processes.children:
            return
        self._bury()
        living = {child.host for child in self._processes.children}
        wanted = [host for host in needed if host not in living]
        if wanted:
            self.say(f"starting {' and '.join(wanted)} ({self._engine} engine)")
            self._processes.start(wanted, self._engine)

    def nobody(self, timeline: Timeline) -> list[str]:
        """Agents of ours that messages wait for, that run nowhere in this home, and that we may not start.

        Of other people's agents we cannot tell whether they run.
        """
        if self._may_start:
            return []
        running = self._processes.running()
        return [a for a in dict.fromkeys(agent for _, agent in timeline.open()) if a not in running and host_of(a)]

    def _needed(self, agents: Iterable[str]) -> list[str]:
        running = self._processes.running()
        hosts = [host for agent in agents if agent not in running and (host := host_of(agent))]
        hosts += [FOLLOWS[host] for host in hosts if host in FOLLOWS]
        return list(dict.fromkeys(hosts))

    def _bury(self) -> None:
        """A child that ended because somebody else runs its agents is no loss; any other end is a failure."""
        from jobs.agents import agents_of

        running = self._processes.running()
        for child in list(self._processes.children):
            if child.process.poll() is None:
                continue
            if all(agent.name in running for agent in agents_of(child.host)):
                self._processes.children.remove(child)
            else:
                self._processes.wait_ready(0.0)


def host_of(agent: str) -> str | None:
    """The host an agent of ours runs in; None for other people's agents."""
    from jobs.agents import AGENTS

    return next((one.host for one in AGENTS if one.name == agent), None)
