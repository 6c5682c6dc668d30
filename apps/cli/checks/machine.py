"""Checks of the machine: Python and its packages, Java, Delta's JARs, the kernel, the clock."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from apps.cli.checks import Check, Finding, Place, fail, ok, warn

PYTHONS = ((3, 11), (3, 12), (3, 13))
JAVAS = ("17", "21")
VECTOR_MODULE = "jdk.incubator.vector"
#: Seconds by which a file's time may differ from the clock.
CLOCK_TOLERANCE_S = 5.0
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)(?:\s*;\s*(.*?))?\s*\\?$")


def python(place: Place) -> Finding:
    version = sys.version_info
    found = f"{version.major}.{version.minor}.{version.micro} in {sys.prefix}"
    if (version.major, version.minor) in PYTHONS:
        return ok("python", found)
    return fail("python", found, "make setup PYTHON=/path/to/python3.11 (3.11, 3.12 or 3.13)")


def packages(place: Place, pins: Path | None = None) -> Finding:
    """What is installed is what was pinned and tested."""
    pins = pins or Path(__file__).parents[3] / "requirements.txt"
    if not pins.is_file():
        return warn(
            "packages", "no requirements.txt beside the code to compare with", "install from a checkout: make setup"
        )
    wanted = pinned(pins.read_text())
    missing = [name for name in wanted if _installed(name) is None]
    other = [
        f"{name} {_installed(name)} (pinned {v})" for name, v in wanted.items() if _installed(name) not in (None, v)
    ]
    if missing:
        return fail("packages", f"missing: {', '.join(missing)}", "make setup")
    if other:
        return warn("packages", f"other versions: {', '.join(other)}", "make setup")
    return ok("packages", f"all {len(wanted)} at their pinned versions")


def pinned(text: str) -> dict[str, str]:
    """Name -> version of a requirements file, as far as its markers hold here."""
    found = {}
    for line in text.splitlines():
        match = _PINNED.match(line.strip())
        if match and (not match.group(3) or _holds(match.group(3))):
            found[match.group(1)] = match.group(2)
    return found


def _holds(marker: str) -> bool:
    try:
        from packaging.markers import Marker
    except ImportError:
        return False  # a conditional package we cannot judge is not asked for
    return bool(Marker(marker).evaluate())


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def java(place: Place) -> Finding:
    from bus.streaming.jars import java_executable

    program = java_executable()
    said = _java(program, "-XshowSettings:properties", "-version")
    remedy = "make setup installs or finds it; or set JAVA_HOME to a Java 17 or 21"
    if said is None:
        return fail("java", f"{program} cannot be started", remedy)
    match = re.search(r"^\s*java\.specification\.version = (\S+)", said, re.MULTILINE)
    version = match.group(1) if match else "of unknown version"
    if version not in JAVAS:
        return fail("java", f"Java {version} in {program}; Spark 4 runs on {' and '.join(JAVAS)}", remedy)
    return ok("java", f"Java {version} in {program}")


def java_modules(place: Place) -> Finding:
    from bus.streaming.jars import java_executable

    said = _java(java_executable(), "--list-modules")
    if said is None:
        return fail("java modules", "there is no Java to ask", "see java")
    if VECTOR_MODULE not in said:
        return fail(
            "java modules",
            f"{VECTOR_MODULE} is missing: a trimmed runtime",
            "install a whole OpenJDK 17 or 21; set JAVA_HOME",
        )
    return ok("java modules", f"{VECTOR_MODULE} is there")


def _java(program: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout + done.stderr if done.returncode == 0 else None


def jars(place: Place) -> Finding:
    from bus.streaming.jars import JarsMissing, jars_folder, verify

    folder = jars_folder()
    try:
        verify(folder)
    except JarsMissing as error:
        return fail("delta jars", str(error), "make setup, once, with a network")
    return ok("delta jars", f"as pinned, in {folder}")


def landlock(place: Place) -> Finding:
    from workers.adapters.sandbox.landlock import abi

    version = abi()
    if version:
        return ok("landlock", f"version {version}: execution cannot read keys and bus tables")
    return warn(
        "landlock",
        "this kernel has none: only the allow-list keeps executed code from keys and bus tables",
        "Linux 5.13 or newer with landlock among its security modules",
    )


def code_sandbox(place: Place) -> Finding:
    """Built once around nothing: whether it holds here cannot be read off a version."""
    from workers.adapters.code_sandbox.probe import missing

    lacks = missing()
    if lacks is None:
        return ok("code sandbox", "Python and PySpark can be run")
    return warn(
        "code sandbox",
        f"Python and PySpark are refused, SQL runs; this machine lacks {lacks}",
        "Linux 5.12 or newer where namespaces may be made: see docs/governance.md, Python and PySpark",
    )


def clock(place: Place) -> Finding:
    """Signatures and expiries compare times, so the clock must not be far off or differ from the disk's."""
    if time.gmtime().tm_year < 2025:
        return fail("clock", f"it says {time.strftime('%Y-%m-%d')}", "set the machine's clock")
    folder = place.home.root if place.home.root.is_dir() and os.access(place.home.root, os.W_OK) else None
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        off = abs(os.stat(file.name).st_mtime - time.time())
    if off > CLOCK_TOLERANCE_S:
        return warn("clock", f"the file system's clock differs by {off:.0f} s", "set both by the same time server")
    return ok("clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))


CHECKS: tuple[Check, ...] = (python, packages, java, java_modules, jars, landlock, code_sandbox, clock)
