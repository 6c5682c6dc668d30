"""What `tailrace up` says while hosts come up, stay and end."""

from __future__ import annotations

import io
import sys
import threading
import time
from typing import Any

import pytest

from apps.cli.terminal import Terminal
from apps.cli.watching import watch
from jobs.agents import AGENTS
from jobs.liveness import Running
from jobs.processes import HostFailed


class FakeProcesses:
    """Each look shows one more agent ready; `ends_after` looks a host ends, and `stop` is set after all are ready."""

    def __init__(self, stop: threading.Event, ends_after: int | None = None) -> None:
        self.looks = 0
        self._stop = stop
        self._ends_after = ends_after
        self.children = [self]
        self.process = self

    def poll(self) -> int | None:
        return 1 if self._ends_after is not None and self.looks > self._ends_after else None

    def everyone(self) -> list[Running]:
        self.looks += 1
        if self.looks > len(AGENTS) + 1:
            self._stop.set()
        return [
            Running(agent.name, 100 + at, "tail", ready=at < self.looks, since=time.time())
            for at, agent in enumerate(AGENTS)
        ]

    def missing_hosts(self) -> list[str]:
        return []

    def wait_ready(self, timeout: float) -> None:
        raise HostFailed("host main ended with code 1:\nits last words")


def watched(processes: Any, stop: threading.Event) -> None:
    watch(processes, Terminal(), stop, look_s=0.001)


def test_off_a_terminal_each_change_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    stop = threading.Event()
    watched(FakeProcesses(stop), stop)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["OrchestratorAgent ready (process 100, tail)", "RAGAgent starting (process 101, tail)"]
    assert lines.count("RAGAgent ready (process 101, tail)") == 1
    assert lines[-1] == "all agents are ready"


def test_on_a_terminal_it_is_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    err = Tty()
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("TERM", "xterm-256color")
    stop = threading.Event()
    watched(FakeProcesses(stop), stop)
    assert "Orchestrator" in err.getvalue()
    assert "all agents are ready" in err.getvalue()
    assert "Ctrl-C" in err.getvalue()


def test_a_host_that_ends_by_itself_ends_the_watch_with_its_last_words() -> None:
    stop = threading.Event()
    with pytest.raises(HostFailed, match="its last words"):
        watched(FakeProcesses(stop, ends_after=1), stop)
