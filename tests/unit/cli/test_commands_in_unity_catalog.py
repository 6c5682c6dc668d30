"""The commands where agent_messages is in Unity Catalog: the whole way, over a catalogue in memory instead of Spark's.

Over Spark itself: tests/integration/bus/test_unity_catalog.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bus.client import TailraceClient
from bus.fold import State
from bus.keys import Signer
from bus.streaming import client, spark_bus
from config.settings import Settings
from jobs import zerobus
from jobs.agents import find
from jobs.bootstrap import System
from jobs.init_home import SAMPLE_TABLES
from schemas.envelope import Message
from schemas.payloads import Ask, GenerateCode
from tests.contract.catalogue import Catalogue, CatalogueTable
from tests.hosting import hosted
from tests.unit.cli.conftest import EXECUTE, Run, workers
from tests.unit.cli.test_dead import settle

PLACE = "uc://main.tailrace"


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Catalogue:
    """Where commands find Spark's table, and no home yet."""
    made = Catalogue()
    monkeypatch.setattr(client, "messages_table", made.table)
    monkeypatch.setattr(spark_bus, "POLL_S", 0.005)
    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path / "home"))
    for table in SAMPLE_TABLES:  # the sample is not what is tried here
        (tmp_path / "home" / "warehouse" / "tpch" / table).mkdir(parents=True)
    return made


@pytest.fixture
def system(catalogue: Catalogue, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setenv("TAILRACE_TABLES", PLACE)
    said = run("init", "--json")
    assert said.code == 0, said.err
    monkeypatch.delenv("TAILRACE_TABLES")  # from now on it is noted
    return System(Settings.load(home=str(tmp_path / "home")))


def asked(run: Run) -> str:
    said = run("ask", "How are sales defined?", "--as", "ana", "--no-start", "--json")
    assert (said.code, said.json["status"]) == (0, "answered"), said.err
    return str(said.json["correlation_id"])


def send_odd(run: Run) -> None:
    said = run("send", "--to", "rag", "--kind", "Odd", "--content", "{}", "--as", "ana")
    assert said.code == 0, said.err


def test_from_init_to_a_verified_answer(run: Run, system: System, catalogue: Catalogue) -> None:
    with hosted(system, *workers()):
        conversation = asked(run)
        traced = run("trace", conversation, "--json")
    assert traced.json["messages"][0]["kind"] == "Ask"
    assert (traced.code, traced.json["status"]) == (0, "answered")
    verified = run("audit", "verify", "--json")
    assert verified.code == 0, verified.out
    checked = verified.json["checked"]
    assert checked["signatures"] == checked["rows"] == sum(commit.num_rows for commit in catalogue.commits)
    assert checked["facts"] > 0
    assert {agent["agent"] for agent in run("agents", "--json").json} >= {"RAGAgent"}
    views = [statement.split(" AS ")[0] for statement in catalogue.views]
    assert "CREATE OR REPLACE VIEW `main`.`tailrace`.valid_messages" in views


def test_a_message_sent_before_anybody_runs_is_answered_later(run: Run, system: System) -> None:
    said = run(
        "send",
        "--to",
        "orchestrator",
        "--kind",
        "Ask",
        "--content",
        json.dumps({"question": "sales?"}),
        "--as",
        "ana",
        "--json",
    )
    assert (said.code, said.json["nobody_runs"]) == (0, True), said.err
    with hosted(system, *workers()):
        waited = run("wait", said.json["correlation_id"], "--no-start", "--json")
    assert (waited.code, waited.json["status"]) == (0, "answered"), waited.err


def test_another_programs_client_needs_the_home_alone(system: System) -> None:
    with hosted(system, *workers()), TailraceClient(system.home.root, user="ana") as service:
        answer = service.request("OrchestratorAgent", Ask(question="How are sales defined?"), timeout=30)
        assert answer.kind == "Answered"
        assert service.wait(answer.correlation_id).message_id == answer.message_id
        again = service.send("OrchestratorAgent", Ask(question="x"), message_id="mine")
        assert service.send("OrchestratorAgent", Ask(question="x"), message_id="mine") == again


def test_a_start_reads_what_came_after_the_written_state(run: Run, system: System, catalogue: Catalogue) -> None:
    with hosted(system, *workers()):
        asked(run)
    said = run("upkeep", "--json")
    assert said.code == 0, said.err
    (done,) = [one for one in said.json["tables"] if one["table"] == "agent_messages"]
    assert done["state"] == len(catalogue.commits)
    send_odd(run)
    catalogue.scans, catalogue.asked = 0, []
    follower = system.follower(lambda _: True)
    try:
        assert (catalogue.scans, catalogue.asked[0]) == (0, done["state"] + 1)
        whole = folded(catalogue)
        assert set(follower.state.open) == set(whole.open)
        assert len(follower.state.open_for("RAGAgent")) == 1
        assert follower.state.subscriptions == whole.subscriptions
    finally:
        follower.close()
    # A state that upkeep's key did not sign is passed over, and everything is read.
    (note,) = (system.home.beside / "_tailrace").glob("state-*.json")
    note.write_text(note.read_text().replace('"signature": "', '"signature": "A'))
    system.follower(lambda _: True).close()
    assert catalogue.scans == 1


def test_hosts_and_their_projections_start_without_reading_everything(
    run: Run, system: System, catalogue: Catalogue
) -> None:
    with hosted(system, *workers()):
        asked(run)
        assert run("upkeep").code == 0
        asked(run)
    send_odd(run)
    catalogue.scans = 0
    again = System(Settings.load(home=str(system.home.root)))
    with hosted(again, *workers()):
        asked(run)
    assert catalogue.scans == 0
    verified = run("audit", "verify", "--json")
    assert (verified.code, verified.json["found"]) == (0, {})
    assert verified.json["checked"]["projected rows"] > 0


def test_where_the_change_feed_does_not_reach_back_the_table_is_asked(
    run: Run, system: System, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_odd(run)
    assert run("upkeep").code == 0
    send_odd(run)
    reached = len(catalogue.commits)
    feed = CatalogueTable.changes

    def forgetful(table: CatalogueTable, since: int) -> list[Any]:
        if since <= reached:
            raise RuntimeError("DELTA_MISSING_CHANGE_DATA")
        return feed(table, since)

    monkeypatch.setattr(CatalogueTable, "changes", forgetful)
    follower = system.follower(lambda _: True)
    try:
        assert len(follower.state.open_for("RAGAgent")) == 2
        assert follower.state.version == reached
    finally:
        follower.close()


def folded(catalogue: Catalogue) -> State:
    state = State()
    for _, rows in catalogue.table().scan():
        state.absorb(rows)
    catalogue.scans = 0
    return state


# --- what an auditor is told ------------------------------------------------------------------------------------------


def problems(run: Run) -> set[str]:
    said = run("audit", "verify", "--json")
    assert said.code == 1, said.out
    return set(said.json["found"])


def test_a_row_that_was_taken_out_is_missed(run: Run, system: System, catalogue: Catalogue) -> None:
    with hosted(system, *workers()):
        asked(run)
    place = next(n for n, rows in enumerate(catalogue.commits) if rows.num_rows > 2)
    catalogue.commits[place] = catalogue.commits[place].slice(1)
    assert "log.removed" in problems(run)


def test_a_row_that_says_something_else_is_named(run: Run, system: System, catalogue: Catalogue) -> None:
    send_odd(run)
    changed = catalogue.commits[-1]
    place = changed.schema.get_field_index("content")
    catalogue.commits[-1] = changed.set_column(place, "content", [['{"a": 1}'] * changed.num_rows])
    assert "signature.invalid" in problems(run)


@pytest.mark.parametrize(
    ("operation", "more"),
    [
        ("DELETE", {}),
        ("RESTORE", {}),
        ("WRITE", {"operationParameters": {"mode": "Overwrite"}}),
        ("SET TBLPROPERTIES", {"operationParameters": {"properties": '{"delta.appendOnly":"false"}'}}),
    ],
)
def test_what_may_have_changed_rows_is_named_with_who_did_it(
    run: Run, system: System, catalogue: Catalogue, operation: str, more: dict[str, object]
) -> None:
    catalogue.table().done("OPTIMIZE")
    assert run("audit", "verify").code == 0
    catalogue.table().done(operation, **more)
    said = run("audit", "verify", "--json")
    assert (said.code, set(said.json["found"])) == (1, {"table.changed"})
    assert "by eve" in said.json["problems"][0]["what"] or "eve changed" in said.json["problems"][0]["what"]


def test_what_lost_a_race_or_came_twice_is_counted_and_no_problem(
    run: Run, system: System, catalogue: Catalogue
) -> None:
    with hosted(system, *workers()):
        asked(run)
    # As a producer does that was not told its rows had arrived, and as a host that decided too late.
    first = catalogue.commits[0]
    whole = next(commit for commit in catalogue.commits if "receipt" in commit.column("message_type").to_pylist())
    for again in (first, whole):
        place = again.schema.get_field_index("_commit_version")
        catalogue.commits.append(
            again.set_column(place, "_commit_version", [[len(catalogue.commits) + 1] * again.num_rows])
        )
    said = run("audit", "verify", "--json")
    assert said.code == 0, said.out
    assert said.json["checked"]["rows that lost a race"] >= 1
    assert said.json["checked"]["copies"] >= 1


def test_an_anchor_kept_elsewhere_knows_what_the_log_was(
    run: Run, system: System, catalogue: Catalogue, tmp_path: Path
) -> None:
    with hosted(system, *workers()):
        asked(run)
    kept = str(tmp_path / "anchors")
    anchored = run("audit", "anchor", "--to", kept, "--json")
    assert (anchored.code, anchored.json["new"]) == (0, True), anchored.err
    assert anchored.json["anchor"]["rows"] == sum(commit.num_rows for commit in catalogue.commits[:-1])
    send_odd(run)
    assert run("audit", "anchor", "--to", kept, "--json").json["anchor"]["number"] == 2
    assert run("audit", "verify", "--anchor", kept).code == 0
    # The newest rows are gone, and with them every trace in the log itself.
    del catalogue.commits[-3:]
    assert run("audit", "verify").code == 0
    said = run("audit", "verify", "--anchor", kept, "--json")
    assert (said.code, "anchor.truncated" in said.json["found"]) == (1, True), said.out


def test_a_second_message_under_an_id_that_says_something_else_is_named(
    run: Run, system: System, catalogue: Catalogue
) -> None:
    with TailraceClient(system.home.root, user="ana") as service:
        sent = service.send("RAGAgent", Ask(question="x"))
    signer = Signer.load(system.home.keys, ["user:ana"], "in-memory", system.settings.env)
    other = signer.sign(sent.with_fields(content='{"question":"y"}', signature=None, key_id=None))
    catalogue.table().commit([other], "a stranger", 1)
    assert problems(run) == {"log.repeated"}


# --- what is refused --------------------------------------------------------------------------------------------------


def test_new_keys_do_not_take_over_anothers_table(
    run: Run, system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_odd(run)
    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path / "second"))
    monkeypatch.setenv("TAILRACE_TABLES", PLACE)
    said = run("init")
    assert (said.code, "keyring.json" in said.err) == (1, True), said.err
    assert not (tmp_path / "second" / "keys").exists()


def test_what_was_given_up_is_delivered_again(run: Run, system: System) -> None:
    with TailraceClient(system.home.root, user="eli") as service:
        sent = service.send("CodeAgent", GenerateCode(question="x"))
    agent = system.bus([find("code")])
    try:
        settle(agent, sent, "dead", "it broke")
        assert [one["message_id"] for one in run("dead", "list", "--json").json] == [sent.message_id]
        said = run("dead", "redrive", sent.message_id, "--as", "eli", "--yes", "--json")
        assert said.code == 0, said.err
        agent.catch_up()
        assert [row.kind for row in agent.state.open_for("CodeAgent")] == ["GenerateCode"]
    finally:
        agent.close()
    assert run("audit", "verify").code == 0


def test_recorded_requests_are_decided_again(run: Run, system: System) -> None:
    with hosted(system, *workers()):
        run("ask", EXECUTE, "--as", "eli", "--no-start", "--no-wait-approval")
    said = run("policy", "test", "--json")
    assert (said.code, said.json["requests"]) == (0, 1), said.out


@pytest.mark.parametrize(("words", "code"), [(["audit", "export", "--to", "bundle"], 1), (["replay"], 2)])
def test_what_needs_the_files_of_a_log_of_ours_says_so(run: Run, system: System, words: list[str], code: int) -> None:
    said = run(*words)
    assert (said.code, "uc://main.tailrace" in said.err) == (code, True), said.err


@pytest.mark.parametrize("place", ["uc://main", "uc://main.tailrace.agent_messages", "uc://main.tail`race"])
def test_a_place_that_is_no_schema_is_refused(
    run: Run, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("TAILRACE_TABLES", place)
    said = run("init")
    assert (said.code, "uc://catalog.schema" in said.err) == (1, True), said.err


def test_before_init_every_command_says_so(run: Run, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_TABLES", PLACE)
    said = run("send", "--to", "rag", "--kind", "Odd", "--content", "{}", "--as", "ana")
    assert (said.code, "tailrace init" in said.err) == (1, True), said.err


def test_a_forged_answer_is_not_taken_for_one(system: System, catalogue: Catalogue) -> None:
    """Whoever may write the table can write any row; a client believes signatures."""
    with TailraceClient(system.home.root, user="ana") as service:
        sent = service.send("RAGAgent", Ask(question="x"))
        forged = Message(
            message_id="forged",
            correlation_id=sent.correlation_id,
            causation_id=sent.message_id,
            from_agent="RAGAgent",
            to_agent="user:ana",
            message_type="response",
            kind="Answered",
            content='{"text": "trust me"}',
            timestamp=sent.timestamp,
        )
        catalogue.table().commit([forged], "a stranger", 1)
        assert [row.message_id for row in service.conversation(sent.correlation_id)] == [sent.message_id]


# --- without Spark ----------------------------------------------------------------------------------------------------


class Service:
    """The other end of Zerobus, as the SDK says its streams are; what arrives stands in the catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self.connected: tuple[str, ...] = ()

    def connect(self, *to: str) -> Callable[[], Service]:
        self.connected = to
        return lambda: self

    def ingest_records_offset(self, payloads: list[str]) -> int:
        rows = [Message(**{k: v for k, v in json.loads(one).items() if k != "date"}) for one in payloads]
        self._catalogue.table().commit(rows, "zerobus", len(self._catalogue.commits) + 1)
        return 1

    def wait_for_offset(self, offset: int) -> None:
        return

    def close(self) -> None:
        return


def test_a_message_goes_through_zerobus_when_that_is_configured_and_nobody_waits(
    run: Run, system: System, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(catalogue)
    monkeypatch.setattr(zerobus, "connect", service.connect)
    monkeypatch.setattr(client, "messages_table", None)  # Spark is not asked
    monkeypatch.setenv("TAILRACE_ZEROBUS_ENDPOINT", "https://zerobus.example")
    question = json.dumps({"question": "How are sales defined?"})
    words = ["send", "--to", "orchestrator", "--kind", "Ask", "--content", question, "--as", "ana", "--json"]
    said = run(*words)
    assert (said.code, "DATABRICKS_CLIENT_ID, DATABRICKS_CLIENT_SECRET" in said.err) == (1, True), said.err
    monkeypatch.setenv("DATABRICKS_HOST", "https://workspace.example")
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", "someone")
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", "hidden")
    said = run(*words)
    assert said.code == 0, said.err
    assert service.connected[2:] == ("main.tailrace.agent_messages", "someone", "hidden")
    monkeypatch.setattr(client, "messages_table", catalogue.table)
    with hosted(system, *workers()):
        waited = run("wait", said.json["correlation_id"], "--no-start", "--json")
    assert (waited.code, waited.json["status"]) == (0, "answered"), waited.err
    assert run("audit", "verify").code == 0
