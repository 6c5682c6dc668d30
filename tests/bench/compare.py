"""The bus against others in one run, everything it needs included: installs what is missing, measures, keeps the numbers.

    make bench-bus                              # or: python -m tests.bench.compare [--quick] [--no-spark] [--out FOLDER]

As root, PostgreSQL and Redis come from the system's packages when they are not there; nobody starts them but this run, on
sockets in a scratch folder. Otherwise it says what is missing, and leaves those rows out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEBIAN = Path("/usr/lib/postgresql")
#: Program -> Debian package.
PROGRAMS = {"postgres": "postgresql", "redis-server": "redis-server"}
#: What of the extra `bench` is imported.
MODULES = ("procrastinate", "psycopg", "dramatiq", "redis", "matplotlib")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--quick", action="store_true", help="fewer rounds, for a first look")
    asked.add_argument("--rounds", type=int, help="rounds, instead of 5")
    asked.add_argument("--no-spark", action="store_true", help="without Spark, which takes minutes")
    asked.add_argument("--no-install", action="store_true", help="install nothing; leave out what is missing")
    asked.add_argument(
        "--history", type=Path, help="a home with a long log: measured beside an empty one, nothing else"
    )
    asked.add_argument("--json", action="store_true", help="one JSON document on standard output")
    asked.add_argument("--out", type=Path, default=ROOT / "build" / "bench", help="folder that keeps the numbers")
    words = asked.parse_args()
    if not words.no_install and words.history is None:
        install_programs()
        install_packages()

    from jobs import logging
    from jobs.bench.run import run

    logging.configure("WARNING")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers and workers are ended on the way out
    started, here = time.time(), machine()
    found = run(["bus"], say, words.quick, spark=not words.no_spark, history=words.history, rounds=words.rounds)
    document = {"machine": here, "seconds": round(time.time() - started), "measurements": found.document()}
    name = "bus.json" if words.history is None else "history.json"
    words.out.mkdir(parents=True, exist_ok=True)
    (words.out / name).write_text(json.dumps(document, indent=1) + "\n")
    if words.json:
        print(json.dumps(document))
        return
    from rich.console import Console

    from apps.cli.terminal import PLAIN_WIDTH, THEME
    from apps.cli.views.bench import measurements

    Console(theme=THEME, width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(measurements(found.rows))
    print(f"kept in {words.out / name}")


def say(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


def machine() -> dict[str, object]:
    return {
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }


def install_programs() -> None:
    """By apt-get, which must not start what it installs."""
    missing = sorted({package for program, package in PROGRAMS.items() if not is_there(program)})
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        say(f"not on this machine: {', '.join(missing)}; their rows are left out (apt-get install them, as root)")
        return
    say(f"apt-get install {' '.join(missing)}")
    # Packages ask the run level whether to start their service: level 1 says no.
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        say(f"apt-get failed, their rows are left out: {done.stderr.strip()[-300:]}")


def is_there(program: str) -> bool:
    return shutil.which(program) is not None or any(DEBIAN.glob(f"*/bin/{program}"))


def install_packages() -> None:
    if all(find_spec(module) for module in MODULES):
        return
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["bench"]
    say(f"pip install {' '.join(extra)}")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", *extra], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        say(f"pip failed, their rows are left out: {done.stderr.strip()[-300:]}")


if __name__ == "__main__":
    main()
