"""Whether a process still runs, told by what its host said of itself; nothing is guessed of other machines."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from workers.runtime.whereabouts import alive, shown, whereabouts

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no /proc to look into")


def test_this_process_is_alive_and_a_dead_one_is_not() -> None:
    assert alive(whereabouts()) is True
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    host = whereabouts(other.pid)
    assert alive(host) is True
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert alive(host) is False  # dead, and not buried yet
    other.communicate()
    assert alive(host) is False


def test_another_process_with_the_same_number_is_not_the_same() -> None:
    name, _, identity = whereabouts().partition("/")
    machine, _, start = identity.partition("-")
    assert alive(f"{name}/{machine}-{int(start) - 1}") is False


@pytest.mark.parametrize("host", ["elsewhere:1", "here:1/0123456789ab-77", "", ":", "a/b/c", "x:y/z-1"])
def test_of_other_machines_and_of_nonsense_nothing_is_known(host: str) -> None:
    assert alive(host) is None


def test_people_see_machine_and_process() -> None:
    assert shown(whereabouts()).endswith(f":{os.getpid()}")
    assert shown("old:12") == "old:12"
