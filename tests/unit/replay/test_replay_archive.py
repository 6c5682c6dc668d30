"""A home whose conversations have left for an archive, but for one: what `replay` and `policy test` make of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable
from typer.testing import CliRunner

from apps.cli.main import app
from bus.fold import State
from bus.log import retention
from config.settings import Settings
from jobs.replay.request import ReplayRequest
from jobs.replay.run import replay
from schemas.tables import AGENT_MESSAGES
from tests.unit.bus.logs import message
from tests.unit.replay.conftest import Recorded, Run, Said
from tests.unit.replay.recorded import RecordedSystem, replays, versions
from workers.runtime.clock import SystemClock


class Later(SystemClock):
    """Five days from now."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(days=5)


def retain(recorded: Recorded, to: Path | None, *stays: str) -> None:
    """All conversations leave but these; as if nothing in the others waited any more for its time."""
    later = RecordedSystem(Settings.load(home=str(recorded.system.home.root)), Later())
    state = State()
    for conversation in stays:
        state.opened("Nobody", message(correlation_id=conversation))
    retention.retain(later.log(AGENT_MESSAGES.name), 2, to, state=state)


@pytest.fixture
def archive(recorded: Recorded, tmp_path: Path) -> Path:
    """Where all conversations went but the one about knowledge."""
    retain(recorded, tmp_path / "archive", recorded.said["knowledge"])
    return tmp_path / "archive" / "agent_messages"


def handlings(table: Path) -> set[tuple[str, str]]:
    """(message, agent) of every receipt, by deltalake alone."""
    rows = DeltaTable(str(table)).to_pyarrow_table().to_pylist()
    return {(row["causation_id"], row["from_agent"]) for row in rows if row["message_type"] == "receipt"}


async def test_what_has_left_is_replayed_as_it_was(recorded: Recorded, archive: Path) -> None:
    there, here = handlings(archive), handlings(recorded.system.home.table("agent_messages"))
    assert len(there) > len(here) > 0
    assert not there & here
    before, kept = versions(recorded.system), DeltaTable(str(archive)).version()
    report = await replay(recorded.system, ReplayRequest())
    assert (report.findings, set(report.verdicts)) == ([], {"same"})
    assert {(row["message_id"], row["agent"]) for row in replays(recorded.system)} == there | here
    assert (report.total, report.from_archive, report.discarded_to) == (len(there | here), len(there), None)
    assert (versions(recorded.system), DeltaTable(str(archive)).version()) == (before, kept)


async def test_a_claim_in_the_archive_was_made(recorded: Recorded, archive: Path) -> None:
    """Else ExecutionAgent would run what it ran, and find its grant unused."""
    report = await replay(recorded.system, ReplayRequest(agent="execution"))
    assert (report.verdicts, report.from_archive) == ({"same": 2}, 2)


def test_a_person_reads_how_many_came_from_there(run: Run, recorded: Recorded, archive: Path) -> None:
    there, here = handlings(archive), handlings(recorded.system.home.table("agent_messages"))
    said = run()
    assert said.code == 0, said.err
    headline = (
        f"{len(there | here)} messages replayed, {len(there)} of them from the archive · {len(there | here)} same"
    )
    assert headline in said.out


async def test_one_conversation_comes_from_where_it_is(recorded: Recorded, archive: Path) -> None:
    refused = await replay(recorded.system, ReplayRequest(correlation_id=recorded.said["refused"]))
    assert (refused.total, refused.from_archive) == (1, 1)
    archive.rename(archive.with_name("elsewhere"))
    knowledge = await replay(recorded.system, ReplayRequest(correlation_id=recorded.said["knowledge"]))
    assert (set(knowledge.verdicts), knowledge.from_archive) == ({"same"}, 0)


@pytest.mark.parametrize("words", [["replay"], ["policy", "test"]])
def test_an_archive_that_is_needed_and_gone_is_named_and_nothing_is_replayed(
    run: Run, recorded: Recorded, archive: Path, words: list[str]
) -> None:
    archive.rename(archive.with_name("elsewhere"))
    done = CliRunner().invoke(app, [*words, "--json"])
    said = Said(done.exit_code, done.stdout, done.stderr)
    assert said.code == 1
    assert said.json["error"]["cause"] == (
        f"older rows of agent_messages are in the archive {archive}, and it is not there"
    )
    assert said.json["error"]["remedy"] == "bring the archive back to where it was"
    assert replays(recorded.system) == []


def test_a_file_of_it_that_is_spoilt_is_named_with_the_remedy(run: Run, recorded: Recorded, archive: Path) -> None:
    (file,) = archive.glob("date=*/*.parquet")
    file.write_bytes(file.read_bytes()[:2000])
    said = run("--json")
    assert said.code == 1
    assert f"{file.parent.name}/{file.name}" in said.json["error"]["cause"]
    assert said.json["error"]["remedy"] == "restore what it names from a backup of the archive"
    assert replays(recorded.system) == []


def test_an_archive_in_an_object_store_is_reached_over_the_network(run: Run, recorded: Recorded) -> None:
    """So the network stays open; a span that does not need the archive asks nobody."""
    note = {"s3://somewhere/agent_messages": "2026-01-01"}
    recorded.system.log(AGENT_MESSAGES.name).store.replace(retention.NOTE, json.dumps(note).encode())
    said = run("--from", "24h", "--agent", "rag", "--json")
    assert (said.json["messages"], said.json["from_archive"]) == (3, 0)
    assert "network" not in said.json["kept_from"]


def test_a_policy_is_tried_on_what_has_left(run: Run, recorded: Recorded, archive: Path) -> None:
    done = CliRunner().invoke(app, ["policy", "test", "--json"])
    said = Said(done.exit_code, done.stdout, done.stderr)
    assert (said.json["requests"], said.json["from_archive"], said.json["verdicts"]) == (1, 1, {"same": 1})
    shown = CliRunner().invoke(app, ["policy", "test"]).stdout
    assert "1 request decided again, from the archive · 1 same" in shown


def test_both_commands_say_spans_alike(run: Run) -> None:
    for words in (["replay"], ["policy", "test"]):
        shown = CliRunner().invoke(app, [*words, "--help"]).stdout
        assert shown.count("VERSION|TIME") == 2, shown
        assert "Handled at or after: a version" in shown


async def test_discarded_days_are_said(run: Run, recorded: Recorded) -> None:
    retain(recorded, None)
    report = await replay(recorded.system, ReplayRequest())
    (day,) = retention.archives(recorded.system.log(AGENT_MESSAGES.name)).values()
    assert (report.total, report.from_archive, report.discarded_to) == (0, 0, day)
    shown = CliRunner().invoke(app, ["policy", "test"]).stdout
    assert f"days up to {day} were discarded" in shown
