"""Delta's JARs: which ones, their checksums, where they are kept, and how set-up fetches them once."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

#: PyPI's delta-spark 4.4.0 and this release of the JARs are one; 4.4.1 on PyPI asks for a JAR that does not exist.
DELTA_VERSION = "4.4.0"
DELTA_COORDINATES = f"io.delta:delta-spark_4.2_2.13:{DELTA_VERSION}"

#: Artifact -> sha256 of its JAR. Delta's own only: what they depend on, Spark ships in the version it needs.
CHECKSUMS = {
    "delta-kernel-api": "ee9b5a14ac3b7efdff4d61a58478fe8eb0e5a3fbca43889dca7290795fe79a11",
    "delta-kernel-defaults": "225c975199e4718b38ee5b7e6da7f19e9585024262b2cec2656b32151a856b0b",
    "delta-kernel-unitycatalog": "cea22dfb4ac562b3cd27bf652697750e8336009d73fb06631363aaaad5345ffa",
    "delta-spark_4.2_2.13": "27d4fd8b1f879535c573ed1c718177d6a27f24d3e626ba02e216369725721ead",
    "delta-storage": "c46735481fa8e326b0957be02b4420cbcab4b325bb08009b7f2045a95133f1cc",
}


class JarsMissing(RuntimeError):
    """Delta's JARs were never fetched, or are not the ones we pinned. Remedy: `make setup`, with a network."""


def jars_folder() -> Path:
    """`TAILRACE_JARS`, or a folder inside the virtual environment, so that both share one life."""
    return Path(os.environ.get("TAILRACE_JARS") or Path(sys.prefix) / "jars" / DELTA_COORDINATES.replace(":", "_"))


def jar_paths(folder: Path | None = None) -> list[Path]:
    """The JARs for Spark's class path. Raises JarsMissing before the virtual machine would fail obscurely."""
    folder = folder or jars_folder()
    paths = [folder / f"io.delta_{artifact}-{DELTA_VERSION}.jar" for artifact in sorted(CHECKSUMS)]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise JarsMissing(f"{', '.join(missing)} not in {folder}: run `make setup` once, with a network")
    return paths


def verify(folder: Path) -> None:
    """Compare every JAR with its pinned checksum. Raises JarsMissing with both values."""
    for path, (artifact, expected) in zip(jar_paths(folder), sorted(CHECKSUMS.items()), strict=True):
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != expected:
            raise JarsMissing(f"{path} is not the pinned {artifact}: sha256 is {found}, expected {expected}")


def fetch(folder: Path | None = None) -> Path:
    """Bring the JARs into `folder` unless they are there, and verify them before they may be used."""
    folder = folder or jars_folder()
    try:
        verify(folder)
    except JarsMissing:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            download(Path(temporary))
            fetched = Path(temporary) / "jars"
            verify(fetched)
            for path in jar_paths(fetched):
                path.replace(folder / path.name)
    return folder


def download(work: Path) -> None:
    """Ask Ivy, which Spark ships, for exactly the pinned artifacts; its own default says where from."""
    dependencies = "".join(
        f'<dependency org="io.delta" name="{artifact}" rev="{DELTA_VERSION}" transitive="false" conf="*->default"/>'
        for artifact in sorted(CHECKSUMS)
    )
    module = work / "ivy.xml"
    module.write_text(
        '<ivy-module version="2.0"><info organisation="tailrace" module="jars"/>'
        f"<dependencies>{dependencies}</dependencies></ivy-module>"
    )
    command = [str(java_executable()), "-cp", str(ivy_jar()), "org.apache.ivy.Main", "-error"]
    # Behind a mirror: an Ivy settings file of one's own. Behind a proxy: Java reads JAVA_TOOL_OPTIONS.
    if settings := os.environ.get("TAILRACE_IVY_SETTINGS"):
        command += ["-settings", settings]
    pattern = f"{work}/jars/[organisation]_[artifact]-[revision].[ext]"
    command += ["-ivy", str(module), "-confs", "default", "-types", "jar"]
    command += ["-cache", f"{work}/cache", "-retrieve", pattern]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not (work / "jars").is_dir():
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
        raise JarsMissing(
            f"Delta's JARs could not be fetched:\n{said}\n"
            "Behind a proxy set JAVA_TOOL_OPTIONS=-Dhttps.proxyHost=.. -Dhttps.proxyPort=.., "
            "behind a mirror name an Ivy settings file in TAILRACE_IVY_SETTINGS."
        )


def ivy_jar() -> Path:
    """Ivy as Spark ships it, found without importing Spark."""
    spec = importlib.util.find_spec("pyspark")
    found = sorted(Path((spec.submodule_search_locations or [""])[0]).glob("jars/ivy-*.jar")) if spec else []
    if not found:
        raise JarsMissing("pyspark is not installed: run `make setup`")
    return found[-1]


def archive_path() -> Path | None:
    """The archive for this Java and these JARs; None where we do not know which Java will be started."""
    home = java_home()
    if home is None or not (home / "release").is_file():
        return None
    java = f"{home} {(home / 'release').read_text()} {sys.prefix} {DELTA_VERSION}"
    return jars_folder() / f"classes-{hashlib.sha256(java.encode()).hexdigest()[:12]}.jsa"


def java_home() -> Path | None:
    """The Java that set-up chose; None outside such an environment, where JAVA_HOME and PATH decide."""
    chosen = Path(sys.prefix) / "java-home"
    home = Path(chosen.read_text().strip()) if chosen.is_file() else None
    return home if home and (home / "bin" / "java").is_file() else None


def java_executable() -> Path:
    """The program `java` to start."""
    home = java_home() or (Path(os.environ["JAVA_HOME"]) if os.environ.get("JAVA_HOME") else None)
    return home / "bin" / "java" if home else Path("java")


def main() -> int:
    """Fetch and verify; the error is one readable message."""
    try:
        fetch()
    except JarsMissing as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
