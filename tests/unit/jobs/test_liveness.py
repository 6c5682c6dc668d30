"""Who runs here: several processes of an agent, one only where there may be one, and nobody who is dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bus.home import Home
from jobs.liveness import AlreadyRunning, Presence, processes, running


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_an_agent_may_be_present_more_than_once(home: Home) -> None:
    with Presence(home, "RAGAgent", "tail") as first, Presence(home, "RAGAgent", "streaming") as second:
        assert [(one.agent, one.engine, one.ready) for one in processes(home)] == [
            ("RAGAgent", "tail", False),
            ("RAGAgent", "streaming", False),
        ]
        second.ready()
        assert running(home)["RAGAgent"].engine == "streaming"  # the one that is ready
        first.ready()
        assert running(home)["RAGAgent"].engine == "tail"  # the older of two
    assert processes(home) == []
    assert list(home.run.iterdir()) == []


def test_of_a_single_agent_there_is_one(home: Home) -> None:
    with Presence(home, "ExecutionAgent", "tail", single=True):
        with (
            pytest.raises(AlreadyRunning, match=f"process {os.getpid()}"),
            Presence(home, "ExecutionAgent", "tail", single=True),
        ):
            raise AssertionError("never reached")
        assert len(processes(home)) == 1
    with Presence(home, "ExecutionAgent", "tail", single=True):
        assert len(processes(home)) == 1


def test_what_a_killed_process_left_is_cleared_away(home: Home) -> None:
    program = (
        "import sys, time; from pathlib import Path; from bus.home import Home; from jobs.liveness import Presence\n"
        "with Presence(Home(Path(sys.argv[1])), 'RAGAgent', 'tail', single=True) as mark:\n"
        "    mark.ready(); print('there', flush=True); time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(home.root)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"there\n"
    (found,) = processes(home)
    assert (found.pid, found.ready) == (process.pid, True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert processes(home) == []
    assert list(home.run.glob("*.json")) == []
    with Presence(home, "RAGAgent", "tail", single=True):
        assert len(processes(home)) == 1
