"""Waiting: told at once where the file system tells, and looking in ever longer steps where it does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bus.log.store import LocalStore, Pace
from bus.log.tail import Waiter

FOREVER = 3600.0


class Unwatched(LocalStore):
    """As an object store is: nothing tells us."""

    def __init__(self, root: Path, pace: Pace) -> None:
        super().__init__(root)
        self.watched, self.pace = None, pace


class Looks:
    """Counts looks and the time between them, and finds something at the `last` one."""

    def __init__(self, last: int) -> None:
        self.times: list[float] = []
        self._last = last

    def __call__(self) -> bool:
        self.times.append(time.monotonic())
        return len(self.times) >= self._last

    @property
    def steps(self) -> list[float]:
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]


def never() -> bool:
    return False


def test_looks_come_in_ever_longer_steps_up_to_the_longest(tmp_path: Path) -> None:
    waiter, looks = Waiter(Unwatched(tmp_path, Pace(busy=0.001, idle=0.01))), Looks(12)
    assert waiter.wait(looks, never)
    steps = looks.steps
    # A busy machine makes a step longer, never shorter.
    assert all(step >= least * 0.9 for step, least in zip(steps, [0.001, 0.0015, 0.00225, 0.0033, 0.005], strict=False))
    assert min(steps[6:]) >= 0.009
    waiter.close()


@pytest.mark.parametrize("how", ["wake", "hasten"])
def test_whoever_sleeps_long_is_woken_and_looks_often_again(tmp_path: Path, how: str) -> None:
    waiter = Waiter(Unwatched(tmp_path, Pace(busy=0.001, idle=FOREVER)))
    waiter._step = FOREVER
    there = threading.Event()
    done = _in_thread(lambda: waiter.wait(there.is_set, never))
    there.set()
    getattr(waiter, how)()
    assert done() is True
    assert waiter._step == 0.001
    waiter.close()


def test_something_found_makes_the_next_steps_short_again(tmp_path: Path) -> None:
    waiter = Waiter(Unwatched(tmp_path, Pace(busy=0.001, idle=FOREVER)))
    waiter._step = FOREVER
    assert waiter.wait(lambda: True, never)
    assert waiter._step == 0.001
    waiter.close()


def test_the_file_system_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("inotify_simple", reason="only Linux tells")
    monkeypatch.setattr("bus.log.tail.NOTIFIED_POLL", FOREVER)
    store = LocalStore(tmp_path)
    store.put("_delta_log/0.json", b"")
    waiter = Waiter(store)
    done = _in_thread(lambda: waiter.wait(lambda: store.exists("_delta_log/1.json"), never))
    store.put_if_absent("_delta_log/1.json", b"")
    assert done() is True
    waiter.close()


def test_a_thousand_wake_ups_nobody_sees_block_nobody(tmp_path: Path) -> None:
    waiter = Waiter(Unwatched(tmp_path, Pace(busy=0.001, idle=FOREVER)))
    for _ in range(100_000):
        waiter.wake()
    assert waiter.wait(Looks(3), never)
    waiter.close()


@pytest.mark.parametrize(("busy", "idle"), [(0, 1), (-1, 1), (2, 1)])
def test_a_pace_that_makes_no_sense(busy: float, idle: float) -> None:
    with pytest.raises(ValueError, match="from short to long"):
        Pace(busy, idle)


def _in_thread(work: Callable[[], bool]) -> Callable[[], bool]:
    """Started, and past its first look as far as one can tell; the result has to come."""
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    time.sleep(0.01)

    def result() -> bool:
        thread.join(20)
        assert found, "it sleeps on"
        return found[0]

    return result
