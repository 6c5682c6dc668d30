"""The doctor on machines and homes that are broken, each in one way."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from apps.cli.checks import Finding, Place, agents, home, machine, run
from bus.home import Home
from bus.log import health
from bus.log.consumers import Consumers
from bus.log.object_store import open_store
from bus.log.table import DeltaLog
from jobs.bootstrap import System
from schemas.payloads import Ask
from schemas.tables import AGENT_MESSAGES
from tests.unit.cli.conftest import Run

JAVA_17 = "    java.specification.version = 17\\n"


@pytest.fixture
def place(home: System) -> Place:
    return Place(home.home, home)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which set-up never ran: no Java, no JARs, nothing on the path."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    for name in ("JAVA_HOME", "TAILRACE_JARS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def java_that_says(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "java" / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\nprintf '{text}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(folder / "java"))


def test_a_machine_without_java_and_jars(bare: Path) -> None:
    place = Place(Home(bare / "home"))
    for check in (machine.java, machine.java_modules, machine.jars):
        found = check(place)
        assert found.level == "fail", found
        assert found.remedy
    assert "make setup" in machine.java(place).remedy


@pytest.mark.parametrize(
    ("says", "level"), [("    java.specification.version = 11\\n", "fail"), (JAVA_17, "ok"), ("", "fail")]
)
def test_a_java_spark_does_not_run_on(bare: Path, monkeypatch: pytest.MonkeyPatch, says: str, level: str) -> None:
    java_that_says(bare, says, monkeypatch)
    assert machine.java(Place(Home(bare))).level == level


def test_a_trimmed_java(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java_that_says(bare, "java.base@17\\n", monkeypatch)
    found = machine.java_modules(Place(Home(bare)))
    assert found.level == "fail"
    assert "jdk.incubator.vector" in found.found


def test_jars_that_are_not_the_pinned_ones(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bus.streaming import jars

    for artifact in jars.CHECKSUMS:
        (tmp_path / f"io.delta_{artifact}-{jars.DELTA_VERSION}.jar").write_bytes(b"another")
    monkeypatch.setenv("TAILRACE_JARS", str(tmp_path))
    found = machine.jars(place)
    assert found.level == "fail"
    assert "sha256" in found.found


def test_packages_of_other_versions_or_missing(place: Place, tmp_path: Path) -> None:
    pins = tmp_path / "requirements.txt"
    pins.write_text("rich==1.0 \\\n    --hash=sha256:0\n")
    assert (machine.packages(place, pins).level, "rich" in machine.packages(place, pins).found) == ("warn", True)
    pins.write_text("no-such-package==1.0\nother==1 ; sys_platform == 'nowhere'\n")
    found = machine.packages(place, pins)
    assert (found.level, found.found) == ("fail", "missing: no-such-package")
    assert machine.packages(place, tmp_path / "none").level == "warn"


def test_this_machine_s_python_and_clock(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.python(place).level == "ok"
    assert machine.clock(place).level == "ok"
    monkeypatch.setattr(machine.time, "gmtime", lambda: __import__("time").struct_time((1970, 1, 1, 0, 0, 0, 3, 1, 0)))
    assert machine.clock(place).level == "fail"


def test_a_machine_that_cannot_hold_code_is_a_warning(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from workers.adapters.code_sandbox import probe

    monkeypatch.setattr(probe, "missing", lambda: "a user namespace (Operation not permitted)")
    found = machine.code_sandbox(place)
    assert (found.level, "a user namespace" in found.found) == ("warn", True)
    monkeypatch.setattr(probe, "missing", lambda: None)
    assert machine.code_sandbox(place).level == "ok"


def test_a_kernel_without_landlock_is_a_warning(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from workers.adapters.sandbox import landlock

    monkeypatch.setattr(landlock, "abi", lambda: 0)
    assert machine.landlock(place).level == "warn"
    monkeypatch.setattr(landlock, "abi", lambda: 4)
    assert machine.landlock(place).level == "ok"


def test_a_sound_home(place: Place) -> None:
    for check in (home.home, home.disk, home.keyring, home.tables, home.table_health):
        assert check(place).level == "ok", check(place)


def test_no_home(tmp_path: Path) -> None:
    found = home.home(Place(Home(tmp_path / "nowhere")))
    assert found.level == "fail"
    assert "tailrace init" in found.remedy


def test_a_home_that_is_not_complete(place: Place) -> None:
    (place.home.keys / "keyring.json").unlink()
    assert home.home(place).level == "fail"
    assert home.keyring(place).level == "fail"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written(place: Place) -> None:
    place.home.root.chmod(0o500)
    try:
        assert home.home(place).level == "fail"
    finally:
        place.home.root.chmod(0o700)


@pytest.mark.parametrize("broken", ["altered", "not json", "no signature"])
def test_a_keyring_that_does_not_hold(place: Place, broken: str) -> None:
    path = place.home.keys / "keyring.json"
    document = json.loads(path.read_text())
    match broken:
        case "altered":
            path.write_text(path.read_text().replace("user:ana", "user:eve"))
        case "not json":
            path.write_text("{")
        case _:
            del document["signature"]
            path.write_text(json.dumps(document))
    found = home.keyring(place)
    assert found.level == "fail"
    assert "backup" in found.remedy


def test_private_keys_that_others_may_read(place: Place) -> None:
    assert home.private_keys(place).level == "warn"  # of several people in one home
    (place.home.keys / "private" / "user-ada.pem").chmod(0o644)
    found = home.private_keys(place)
    assert (found.level, "user-ada.pem" in found.found) == ("fail", True)
    assert "chmod 600" in found.remedy


def test_one_person_s_keys_are_no_warning(place: Place) -> None:
    for user in ("ana", "eli"):
        (place.home.keys / "private" / f"user-{user}.pem").unlink()
    assert home.private_keys(place).level == "ok"


def test_a_table_another_writer_has_changed(place: Place) -> None:
    entry = place.home.table("audit_log") / "_delta_log" / f"{0:020d}.json"
    entry.write_text(entry.read_text().replace("tailraceLog", "deletionVectors"))
    found = home.tables(place)
    assert found.level == "fail"
    assert "audit_log" in found.found


def test_a_table_that_is_gone(place: Place) -> None:
    (place.home.table("approvals") / "_delta_log" / f"{0:020d}.json").unlink()
    assert home.tables(place).found == "missing: approvals"


def test_a_log_that_was_never_cleaned(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LONG_LOG", 0)
    found = home.table_health(place)
    assert (found.level, found.remedy.split(" (")[0]) == ("warn", "tailrace upkeep")
    assert "approvals: a log of 1" in found.found


def test_a_consumer_that_fell_silent(place: Place) -> None:
    long_ago = DeltaLog(
        open_store(place.home.table("agent_messages")), AGENT_MESSAGES, now=lambda: datetime(2026, 1, 1, tzinfo=UTC)
    )
    Consumers(long_ago).note("main-1", 0)
    found = home.table_health(place)
    assert (found.level, "main-1 is silent, 0 behind" in found.found) == ("warn", True)


def test_knowledge_and_sample_that_were_never_loaded(place: Place) -> None:
    assert home.knowledge(place).level == "fail"
    assert home.sample(place).level == "fail"


def test_messages_for_an_agent_nobody_runs(place: Place) -> None:
    assert place.system is not None
    assert agents.waiting_messages(place).level == "ok"
    with place.system.client("ana") as client:
        client.send("Weatherman", Ask(question="x"))
    found = agents.waiting_messages(place)
    assert (found.level, "1 for Weatherman" in found.found) == ("warn", True)


def test_a_check_that_breaks_is_a_finding(place: Place) -> None:
    def divides_by_zero(_: Place) -> Finding:
        raise ZeroDivisionError("division by zero")

    (found,) = run([divides_by_zero], place)
    assert (found.name, found.level) == ("divides by zero", "fail")
    assert "ZeroDivisionError" in found.found


def test_the_command_on_a_broken_machine(run: Run, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_HOME", str(bare / "home"))
    monkeypatch.setenv("TAILRACE_ENGINE", "steam")
    said = run("doctor", "--json")
    assert said.code == 1
    assert said.json["ok"] is False
    failed = {check["name"] for check in said.json["checks"] if check["level"] == "fail"}
    assert {"settings", "java", "delta jars", "home"} <= failed
    assert all(check["remedy"] for check in said.json["checks"] if check["level"] != "ok")
    shown = run("doctor")
    assert shown.code == 1
    assert "something has to be mended" in shown.out
    assert "Traceback" not in shown.out + shown.err


def test_the_command_in_a_home_without_data(run: Run, place: Place) -> None:
    said = run("doctor", "--json")
    names = [check["name"] for check in said.json["checks"]]
    assert names == [
        "settings", "python", "packages", "java", "java modules", "delta jars", "landlock", "code sandbox", "clock",
        "policy",
        "home", "disk space",
        "keyring", "private keys", "bus tables", "table health", "knowledge", "sample data",
        "agents", "waiting messages",
    ]  # fmt: skip
    assert {c["name"] for c in said.json["checks"] if c["level"] == "fail"} >= {"knowledge", "sample data"}
