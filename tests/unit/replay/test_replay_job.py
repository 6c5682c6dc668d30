"""Replays of a whole home: what today's code, or another's, makes of what was recorded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from deltalake import DeltaTable

from bus.log.bus import LogBus
from config import files
from config.files import ConfigError
from jobs.replay.history import History
from jobs.replay.report import ReplayReport
from jobs.replay.request import CannotReplay, ReplayRequest
from jobs.replay.run import replay
from jobs.upkeep import Tables
from schemas.envelope import Message
from schemas.payloads import Receipt
from schemas.tables import AGENT_MESSAGES
from tests.unit.replay.conftest import Recorded
from tests.unit.replay.recorded import replays, versions
from tests.unit.replay.strangers import Greet
from workers.runtime.clock import micros

HERE = "tests.unit.replay.strangers"


def found(report: ReplayReport) -> list[dict[str, Any]]:
    return report.document()["findings"]


def rewritten(name: str, folder: Path, change: Any) -> Path:
    """A file of config/, changed."""
    document = files.yaml(name)
    change(document)
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


# --- today's code ----------------------------------------------------------------------------------------------------


async def test_todays_code_does_what_it_did_and_touches_nothing(recorded: Recorded) -> None:
    before = versions(recorded.system)
    ran = len(recorded.system.engine.ran)
    report = await replay(recorded.system, ReplayRequest())
    assert found(report) == []
    assert set(report.verdicts) == {"same"}
    agents = {agent for agent, _, _ in report.counts}
    assert agents == {"OrchestratorAgent", "RAGAgent", "CodeAgent", "GovernanceAgent", "ExecutionAgent"}
    assert versions(recorded.system) == before
    assert len(recorded.system.engine.ran) == ran


async def test_every_message_is_a_row_of_its_own_table(recorded: Recorded) -> None:
    report = await replay(recorded.system, ReplayRequest(agent="code"))
    written = DeltaTable(str(recorded.system.home.table("replays"))).to_pyarrow_table()
    assert written.num_rows == report.total == 3
    counted = duckdb.sql("SELECT agent, kind, verdict, count(*) FROM written GROUP BY ALL").fetchall()
    assert counted == [("CodeAgent", "GenerateCode", "same", 3)]
    row = replays(recorded.system)[0]
    assert row["replay_id"] == report.replay_id
    assert row["worker"] == "workers.code.agent:CodeAgent"
    assert (row["recorded_outcome"], row["replayed_outcome"]) == ("handled", "handled")
    then, now = json.loads(row["recorded"]), json.loads(row["replayed"])
    assert [one["kind"] for one in then] == [one["kind"] for one in now] == ["AuditRecorded", "CodeGenerated"]


async def test_a_home_older_than_the_table_gets_it(recorded: Recorded) -> None:
    shutil.rmtree(recorded.system.home.table("replays"))
    report = await replay(recorded.system, ReplayRequest(agent="governance"))
    assert len(replays(recorded.system)) == report.total > 0


async def test_a_second_replay_adds_to_the_first(recorded: Recorded) -> None:
    first = await replay(recorded.system, ReplayRequest(agent="RAGAgent"))
    second = await replay(recorded.system, ReplayRequest(agent="rag"))
    assert first.total == second.total == 3
    assert [row["replay_id"] for row in replays(recorded.system)].count(first.replay_id) == 3


# --- something changed -----------------------------------------------------------------------------------------------


async def test_a_changed_measure_is_found_in_the_sql(recorded: Recorded, tmp_path: Path) -> None:
    text = files.text("semantic/tpch.yaml")
    measure = "SUM(l.l_extendedprice * (1 - l.l_discount))"
    assert measure in text
    path = tmp_path / "semantic.yaml"
    path.write_text(text.replace(measure, "SUM(l.l_extendedprice)"))
    before = versions(recorded.system)
    report = await replay(recorded.system, ReplayRequest(files={"semantic/tpch.yaml": path}))
    assert report.verdicts["different"] == 2
    for one in found(report):
        assert (one["agent"], one["kind"], one["verdict"]) == ("CodeAgent", "GenerateCode", "different")
        changed = {difference["path"]: difference for difference in one["differences"]}
        assert set(changed) <= {"code.text", "explanation"}
        assert "l_discount" in changed["code.text"]["then"]
        assert "l_discount" not in changed["code.text"]["now"]
    assert {one["correlation_id"] for one in found(report)} == {
        recorded.said["executed"],
        recorded.said["generated"],
    }
    assert versions(recorded.system) == before
    assert {row["replaced"] for row in replays(recorded.system)} == {json.dumps({"semantic/tpch.yaml": str(path)})}


async def test_a_changed_plan_is_found(recorded: Recorded, tmp_path: Path) -> None:
    def without_instead(document: dict[str, Any]) -> None:
        del document["plans"]["answer_data"]["instead"]

    path = rewritten("mas_config.yaml", tmp_path, without_instead)
    report = await replay(recorded.system, ReplayRequest(agent="orchestrator", files={"mas_config.yaml": path}))
    changed = {one["correlation_id"]: one for one in found(report) if one["kind"] == "Ask"}
    assert set(changed) == {recorded.said["published"], recorded.said["not published"]}
    for one in changed.values():
        assert ("AuditRecorded plan.chosen", "kind") not in {(d["output"], d["path"]) for d in one["differences"]}
        outputs = {difference["output"].split(" ")[0] for difference in one["differences"]}
        assert "FindResult" in outputs
        assert "Answered" in outputs


async def test_a_role_that_lost_a_permission_is_found(recorded: Recorded, tmp_path: Path) -> None:
    def no_execution(document: dict[str, Any]) -> None:
        document["roles"]["data_engineer"]["permissions"].remove("sql.execute")

    path = rewritten("rbac_roles.yaml", tmp_path, no_execution)
    report = await replay(
        recorded.system, ReplayRequest(correlation_id=recorded.said["executed"], files={"rbac_roles.yaml": path})
    )
    changed = {(one["agent"], one["kind"]) for one in found(report) if one["verdict"] == "different"}
    assert changed == {("OrchestratorAgent", "Ask"), ("GovernanceAgent", "RequestExecution")}
    (asked,) = (one for one in found(report) if one["kind"] == "Ask")
    assert asked["correlation_id"] == recorded.said["executed"]
    assert "rbac.sql.execute" in json.dumps(asked["differences"])


async def test_a_file_that_is_not_there_is_named(recorded: Recorded, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        await replay(recorded.system, ReplayRequest(files={"mas_config.yaml": tmp_path / "nowhere.yaml"}))


@pytest.mark.parametrize(
    ("name", "agent", "text"),
    [
        ("mas_config.yaml", "orchestrator", "max_question_length: 1\nplanz: {}\n"),
        ("semantic/tpch.yaml", "code", "tables: 7\n"),
        ("semantic/tpch.yaml", "code", "a: [b\n"),
    ],
)
async def test_a_file_that_is_wrong_is_named(
    recorded: Recorded, tmp_path: Path, name: str, agent: str, text: str
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(CannotReplay, match=r"cannot be made with .*wrong\.yaml: "):
        await replay(recorded.system, ReplayRequest(agent=agent, files={name: path}))


async def test_the_files_are_the_usual_ones_again_afterwards(recorded: Recorded, tmp_path: Path) -> None:
    usual = files.text("rbac_roles.yaml")
    path = rewritten("rbac_roles.yaml", tmp_path, lambda document: document["roles"].pop("knowledge_curator"))
    with pytest.raises(ConfigError, match=r"kim has the role knowledge_curator"):
        await replay(recorded.system, ReplayRequest(agent="governance", files={"rbac_roles.yaml": path}))
    assert files.text("rbac_roles.yaml") == usual


# --- another worker --------------------------------------------------------------------------------------------------


async def test_a_named_worker_gets_what_its_agent_handled(recorded: Recorded) -> None:
    report = await replay(recorded.system, ReplayRequest(agent="code", workers=[f"{HERE}:TerseCode"]))
    assert report.total == 3
    outputs = [difference["output"] for one in found(report) for difference in one["differences"]]
    assert outputs == ["AuditRecorded code.generated"] * 2 + ["AuditRecorded code.not_mapped"]
    assert {row["worker"] for row in replays(recorded.system)} == {f"{HERE}:TerseCode"}


async def test_a_named_worker_may_stand_in_under_another_name(recorded: Recorded) -> None:
    report = await replay(recorded.system, ReplayRequest(agent="code", workers=[f"{HERE}:OneLiner"]))
    assert report.verdicts == {"different": 3}
    texts = [d["now"] for one in found(report) for d in one["differences"] if d["path"] == "code.text"]
    assert texts == ["SELECT 1"] * 2


async def test_a_worker_that_wants_arguments_is_refused_with_the_remedy(recorded: Recorded) -> None:
    with pytest.raises(CannotReplay, match="without arguments"):
        await replay(recorded.system, ReplayRequest(agent="code", workers=[f"{HERE}:Demanding"]))


async def test_a_worker_that_ends_the_process_ends_its_message_only(recorded: Recorded) -> None:
    report = await replay(recorded.system, ReplayRequest(agent="code", workers=[f"{HERE}:Exiting"]))
    assert report.verdicts == {"failed": 3}
    assert {one["reason"] for one in found(report)} == {"SystemExit: I have had enough"}


async def test_a_worker_that_runs_what_was_never_run_is_kept_from_it(recorded: Recorded) -> None:
    before = versions(recorded.system)
    report = await replay(recorded.system, ReplayRequest(agent="execution", workers=[f"{HERE}:Meddling"]))
    assert report.verdicts == {"skipped": 2}
    assert all(one["reason"].startswith("effect: ") for one in found(report))
    assert versions(recorded.system) == before


async def test_a_claim_is_recorded_and_never_made(recorded: Recorded) -> None:
    before = versions(recorded.system)
    report = await replay(recorded.system, ReplayRequest(agent="execution", workers=[f"{HERE}:Claiming"]))
    assert report.verdicts == {"same": 1, "different": 1}
    (one,) = found(report)
    assert [(d["output"], d["then"]) for d in one["differences"]] == [("ExecutionClaimed", "(absent)")]
    assert versions(recorded.system) == before


# --- agents of one's own, and messages that died ----------------------------------------------------------------------


def greet(recorded: Recorded, name: str, receipt: Receipt, answer: dict[str, str] | None = None) -> str:
    """A message to somebody else's agent, as a log without keys would have it; returns its id."""
    bus = LogBus(recorded.system.log(AGENT_MESSAGES.name))
    base = {"correlation_id": f"greeting-{name}", "from_agent": "Greeter", "timestamp": 1_767_225_600_000_000}
    asked = {"message_id": f"greet-{name}", "from_agent": "user:eli", "principal": "eli", "to_agent": "Greeter"}
    content = Greet(name=name).model_dump_json()
    said = {"message_id": f"receipt-{name}", "message_type": "receipt", "kind": "Receipt", "to_agent": ""}
    rows = [Message(**(base | asked | {"message_type": "request", "kind": "Greet", "content": content}))]
    bus.submit(rows).result()
    cause = {"causation_id": f"greet-{name}", "handling_id": f"receipt-{name}"}
    rows = [Message(**(base | said | cause | {"content": receipt.model_dump_json()}))]
    if answer is not None:
        more = {"message_id": f"answer-{name}", "message_type": "response", "kind": "Greeted", "to_agent": "user:eli"}
        rows.append(Message(**(base | more | cause | {"content": json.dumps(answer), "principal": "eli"})))
    bus.submit(rows).result()
    bus.close()
    return f"greeting-{name}"


@pytest.fixture
def unsigned(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """A home that asks nobody for a signature."""
    from bus.trust import TrustEverybody

    monkeypatch.setattr(recorded.system, "accept", lambda _: lambda _: True)
    monkeypatch.setattr(recorded.system, "trust", lambda _: TrustEverybody())
    return recorded


async def test_an_agent_without_code_here_is_skipped_with_the_remedy(unsigned: Recorded) -> None:
    greet(unsigned, "ana", Receipt(outcome="handled"), {"text": "Hello, ana"})
    report = await replay(unsigned.system, ReplayRequest(agent="Greeter"))
    (one,) = found(report)
    assert one["verdict"] == "skipped"
    assert "--worker module:Class" in one["reason"]


async def test_a_dead_message_is_repaired_or_still_failing(unsigned: Recorded) -> None:
    greet(unsigned, "nobody", Receipt(outcome="dead", reason="ValueError", attempts=3))
    greet(unsigned, "ana", Receipt(outcome="handled"), {"text": "Hello, ana"})
    today = await replay(unsigned.system, ReplayRequest(workers=[f"{HERE}:Greeter"]))
    assert today.verdicts == {"same": 1, "still_failing": 1}
    assert "there is nobody to greet" in found(today)[0]["reason"]
    tomorrow = await replay(unsigned.system, ReplayRequest(workers=[f"{HERE}:KinderGreeter"]))
    assert tomorrow.verdicts == {"different": 1, "repaired": 1}
    by_verdict = {one["verdict"]: one for one in found(tomorrow)}
    assert by_verdict["repaired"]["reason"] == "it was dead: ValueError"
    assert by_verdict["different"]["differences"][0]["now"] == "Good morning, ana"


async def test_what_was_handled_then_and_fails_now_has_failed(unsigned: Recorded) -> None:
    greet(unsigned, "nobody", Receipt(outcome="handled"), {"text": "Hello, you there"})
    report = await replay(unsigned.system, ReplayRequest(workers=[f"{HERE}:Greeter"]))
    (one,) = found(report)
    assert one["verdict"] == "failed"
    assert one["reason"].startswith("ValueError: there is nobody to greet (")
    assert "strangers.py" in one["reason"]


async def test_a_receipt_that_nobody_signed_recorded_nothing(recorded: Recorded) -> None:
    greet(recorded, "ana", Receipt(outcome="handled"), {"text": "Hello, ana"})
    report = await replay(recorded.system, ReplayRequest(workers=[f"{HERE}:Greeter"]))
    assert report.total == 0


# --- which messages --------------------------------------------------------------------------------------------------


async def test_one_conversation(recorded: Recorded) -> None:
    report = await replay(recorded.system, ReplayRequest(correlation_id=recorded.said["refused"]))
    assert report.counts == {("OrchestratorAgent", "Ask", "same"): 1}


def handled(recorded: Recorded, **request: str) -> list[str]:
    """Ids of the messages that a request is about."""
    system = recorded.system
    source = system.log(AGENT_MESSAGES.name)
    now = micros(system.clock.now())
    history = History(source, system.accept(source.check()), ReplayRequest(**request), now, None)
    found = [one.message.message_id for one in history.recordings()]
    assert history.total == len(found)
    return found


def test_spans_by_version_leave_nothing_out_and_take_nothing_twice(recorded: Recorded) -> None:
    rows = DeltaTable(str(recorded.system.home.table("agent_messages"))).to_pyarrow_table().to_pylist()
    at = sorted(row["log_version"] for row in rows if row["message_type"] == "receipt")
    every = handled(recorded)
    assert len(every) == len(set(every)) == len(at)
    for version in (at[0], at[len(at) // 2], at[-1]):
        early, late = handled(recorded, until=str(version - 1)), handled(recorded, since=str(version))
        assert sorted([*early, *late]) == sorted(every)
        assert len(handled(recorded, since=str(version), until=str(version))) == at.count(version)


def test_spans_by_time(recorded: Recorded) -> None:
    rows = DeltaTable(str(recorded.system.home.table("agent_messages"))).to_pyarrow_table().to_pylist()
    times = sorted(row["timestamp"] for row in rows if row["message_type"] == "receipt")
    middle = times[len(times) // 2]
    assert len(handled(recorded, since=middle.isoformat())) == sum(time >= middle for time in times)
    assert len(handled(recorded, until=middle.isoformat())) == sum(time <= middle for time in times)
    assert len(handled(recorded, since="2h")) == len(times)
    assert handled(recorded, until="2h") == []


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (ReplayRequest(since="yesterday"), "--from yesterday is neither"),
        (ReplayRequest(until="2 fortnights"), "--to 2 fortnights is neither"),
        (ReplayRequest(since="9", until="3"), "--from 9 is after --to 3"),
        (ReplayRequest(agent="Other", workers=[f"{HERE}:Greeter", f"{HERE}:OneLiner"]), "Name one worker"),
    ],
)
async def test_what_makes_no_sense_is_said(recorded: Recorded, request_: ReplayRequest, words: str) -> None:
    with pytest.raises(CannotReplay, match=words):
        await replay(recorded.system, request_)


async def test_a_compacted_log_is_the_same_history(recorded: Recorded) -> None:
    system = recorded.system
    loose = handled(recorded)
    files_before = len(DeltaTable(str(system.home.table("agent_messages"))).file_uris())
    done = Tables(system).run()
    assert done.failed == {}
    assert len(DeltaTable(str(system.home.table("agent_messages"))).file_uris()) < files_before
    assert handled(recorded) == loose
    report = await replay(system, ReplayRequest(agent="execution"))
    assert report.verdicts == {"same": 2}
