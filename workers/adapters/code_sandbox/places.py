"""What of this machine code has to see to run at all: the interpreter, its packages, libraries, and for Spark also Java."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from bus.streaming import jars
from workers.ports import StatementFailed, StatementRefused

_LIBRARIES = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache")
#: Scripts start Java, and Java asks for the rest of the system's programs.
_PROGRAMS = ("/usr", "/bin", "/sbin")


def readable(language: str) -> tuple[list[str], dict[str, str]]:
    """Folders and files that exist, none inside another; and links that lead into them."""
    wanted = [sys.prefix, sys.base_prefix, *_LIBRARIES]
    if language == "pyspark":
        java = java_home()
        wanted += [*_PROGRAMS, str(java), os.path.realpath(java), *(str(place) for place in Path("/etc").glob("java*"))]
        wanted.append(str(jars.jars_folder()))
    links = {place: os.readlink(place) for place in wanted if place.count("/") == 1 and os.path.islink(place)}
    there = {place for place in wanted if place not in links and os.path.exists(place)}
    return sorted(place for place in there if not any(Path(place).is_relative_to(o) for o in there - {place})), links


def refuse_inside(readable_places: Iterable[str], home: Path) -> None:
    """The home holds keys: it must not lie in a folder that code can read. Raises `execution.sandbox`."""
    real = Path(os.path.realpath(home))
    for place in readable_places:
        if real.is_relative_to(os.path.realpath(place)):
            raise StatementRefused(
                "execution.sandbox",
                f"the home {home} lies inside {place}, which Python needs to run and code could read: keep it elsewhere",
            )


def spark() -> dict[str, str]:
    """What a small Spark is started with: Java, how it logs, and the archive of loaded classes with the JARs it is for."""
    archive = jars.archive_path()
    try:
        class_path = os.pathsep.join(str(jar) for jar in jars.jar_paths())
    except jars.JarsMissing:
        class_path = ""  # Delta's; nothing here needs them but the archive
    return {
        "java_home": str(java_home()),
        "class_path": class_path,
        "archive": str(archive) if archive and archive.is_file() else "",
        "logging": (files("bus.streaming") / "log4j2.properties").read_text(),
    }


def java_home() -> Path:
    """Raises StatementFailed where there is no Java."""
    found = jars.java_home() or os.environ.get("JAVA_HOME")
    if found:
        return Path(found)
    program = shutil.which("java")
    if program is None:
        raise StatementFailed("no Java 17 or 21 was found: install one (`make setup` does), or set JAVA_HOME to it")
    return Path(os.path.realpath(program)).parent.parent
