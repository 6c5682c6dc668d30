"""Producers, two hosts and upkeep over one log, killed and stopped at random and at named points; then somebody reads it.

`python -m tests.contract.kill.run --minutes 5` prints the points with what was found. The processes are forks of this
one, which has done nothing but import: a death costs no start of Python.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.contract.kill import reader
from tests.contract.kill.actors import ROLES, Place
from tests.contract.kill.points import DIE, LEAPING, POINTS, SLEEP, note

CAST = (("producer", "p0"), ("producer", "p1"), ("producer", "p2"), ("host", "h0"), ("host", "h1"), ("upkeep", "u0"))
PATIENCE = 90.0
AT_RANDOM = "at any moment"
LONG_NAP = (0.7, 2.5)
#: Seconds a process has to come to its point before a random moment can take it.
GRACE = 6.0


class Theatre:
    """The processes, by the name of the part each plays."""

    def __init__(self, place: Place, luck: random.Random) -> None:
        self.place, self.luck = place, luck
        self.running: dict[str, int] = {}
        self.waking: dict[str, float] = {}
        self.born: dict[str, float] = {}
        self.starts: Counter[str] = Counter()
        self.unexpected: list[str] = []

    def start(self, role: str, name: str, how: str = DIE, point: str = "", after: int = 0) -> int:
        self.starts[name] += 1
        part, seed = f"{name}-{self.starts[name]}", self.luck.randrange(1 << 30)
        pid = os.fork()
        if pid:
            self.running[name] = pid
            self.born[name] = time.monotonic()
            return pid
        code = 1
        try:
            said = os.open(self.place.folder / f"{part}.log", os.O_WRONLY | os.O_CREAT, 0o644)
            os.dup2(said, 1)
            os.dup2(said, 2)
            stays = name if role == "producer" else part
            ROLES[role](self.place, self.place.fate(how, point, after), stays, seed)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def fated(self, role: str, name: str) -> None:
        """Start it with a point of death or sleep in its future, or with none."""
        # Producers come to their points at once; left to themselves, nobody else would get to die.
        if self.luck.random() < (0.7 if role == "producer" else 0.1):
            self.start(role, name)
            return
        point = self.luck.choice(POINTS[role])
        how = SLEEP if self.luck.random() < 0.3 else DIE
        rare = point in (LEAPING, "a written state half loaded") or role == "upkeep"
        self.start(role, name, how, point, 1 if rare else self.luck.randrange(1, 4))

    def look(self) -> list[str]:
        """Who died; whoever fell asleep gets a time to be woken."""
        died = []
        for name, pid in list(self.running.items()):
            found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
            if not found:
                continue
            if os.WIFSTOPPED(status):
                self.waking[name] = time.monotonic() + self.luck.uniform(*LONG_NAP)
                continue
            if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
                self.unexpected.append(self.last_words(name, os.waitstatus_to_exitcode(status)))
            self.gone(name)
            died.append(name)
        for name, when in list(self.waking.items()):
            if time.monotonic() > when:
                self.wake(name)
        return died

    def age(self, name: str) -> float:
        return time.monotonic() - self.born[name]

    def gone(self, name: str) -> None:
        del self.running[name]
        self.waking.pop(name, None)

    def wake(self, name: str) -> None:
        os.kill(self.running[name], signal.SIGCONT)
        self.waking.pop(name, None)

    def last_words(self, name: str, code: int) -> str:
        text = (self.place.folder / f"{name}-{self.starts[name]}.log").read_text()
        return f"{name} ended by itself with {code}: {' / '.join(text.splitlines()[-4:])}"

    def kill(self, name: str) -> None:
        os.kill(self.running[name], signal.SIGKILL)
        os.waitpid(self.running[name], 0)
        self.gone(name)

    def end(self) -> None:
        for name in list(self.running):
            self.kill(name)


def play(place: Place, seconds: float, seed: int) -> list[str]:
    """Returns what ended by itself, which nobody should."""
    luck = random.Random(seed)
    theatre = Theatre(place, luck)
    roles = {name: role for role, name in CAST}
    try:
        for role, name in CAST:
            theatre.start(role, name)
        end = time.monotonic() + seconds
        following = time.monotonic() + 1.0
        while time.monotonic() < end:
            for name in theatre.look():
                theatre.fated(roles[name], name)
            if time.monotonic() > following:
                following = time.monotonic() + luck.uniform(0.3, 1.5)
                old = [name for name in theatre.running if name not in theatre.waking and theatre.age(name) > GRACE]
                if not old:
                    continue
                name = luck.choice(old)
                if luck.random() < 0.3:
                    note(place.fates, f"{SLEEP}\t{AT_RANDOM}")
                    os.kill(theatre.running[name], signal.SIGSTOP)
                else:
                    note(place.fates, f"{DIE}\t{AT_RANDOM}")
                    theatre.kill(name)
                    theatre.fated(roles[name], name)
            time.sleep(0.01)
        _calm(theatre, roles)
    finally:
        theatre.end()
    return list(dict.fromkeys(theatre.unexpected))


def _calm(theatre: Theatre, roles: dict[str, str]) -> None:
    """Producers send what they owe, then nobody sends; hosts handle what waits, and leave in good order."""
    for name, role in roles.items():
        if name in theatre.running:
            theatre.kill(name)
        if role != "upkeep":
            theatre.start(role, name)
    time.sleep(2.0)
    for name, role in roles.items():
        if role == "producer":
            theatre.kill(name)
    watcher = theatre.start("settled", "watcher")
    end = time.monotonic() + PATIENCE
    while theatre.running.get("watcher") == watcher:
        found, status = os.waitpid(watcher, os.WNOHANG)
        if found:
            theatre.gone("watcher")
            if status:
                theatre.unexpected.append(theatre.last_words("watcher", status))
        elif time.monotonic() > end:
            theatre.unexpected.append(f"messages still waited after {PATIENCE} s of calm")
            break
        time.sleep(0.02)
    for name in [name for name, role in roles.items() if role == "host" and name in theatre.running]:
        os.kill(theatre.running[name], signal.SIGTERM)
        _, status = os.waitpid(theatre.running[name], 0)
        if status:
            theatre.unexpected.append(theatre.last_words(name, os.waitstatus_to_exitcode(status)))
        theatre.gone(name)


def table(fates: Path) -> list[str]:
    counted = Counter(tuple(line.split("\t")) for line in fates.read_text().splitlines())
    points = [AT_RANDOM, *dict.fromkeys(point for points in POINTS.values() for point in points)]
    lines = [f"{'point':<40} {'killed':>7} {'stopped':>8}"]
    return lines + [f"{point:<40} {counted[DIE, point]:>7} {counted[SLEEP, point]:>8}" for point in points]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--keep", type=Path, help="a new folder for the tables, which are kept then")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        place = Place(options.keep or Path(scratch))
        place.folder.mkdir(parents=True, exist_ok=True)
        place.create()
        ended = play(place, options.minutes * 60, options.seed)
        found, size = reader.read(place.folder)
        print("\n".join(table(place.fates)))
    print(", ".join(f"{count} {what}" for what, count in size.items()))
    for problem in [*found, *ended]:
        print(f"FOUND {problem}")
    print(
        "nothing was found" if not found and not ended else f"{len(found) + len(ended)} problems, seed {options.seed}"
    )
    return 1 if found or ended else 0


if __name__ == "__main__":
    sys.exit(main())
