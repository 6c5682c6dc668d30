"""`tailrace dead`: what was given up is found by SQL, and delivered again by whoever may."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bus.audit import AuditChain
from bus.keys import Signer
from bus.log.bus import LogBus
from bus.log.seal import SigningSeal
from jobs.bootstrap import System
from jobs.redrive import COLUMNS, Dead, dead_among, matching
from schemas.envelope import Message
from schemas.payloads import GenerateCode
from tests.unit.bus.logs import message
from tests.unit.cli.conftest import Run, Said


def ids(said: Said) -> list[str]:
    return [one["message_id"] for one in said.json]


def give_up(system: System, *names: str, user: str = "eli", outcome: str = "dead") -> list[Message]:
    """Messages of a person to CodeAgent, which gave each of them up, as its host would have signed it."""
    table = system.log("agent_messages")

    def bus_of(subject: str) -> LogBus:
        signer = Signer.load(system.home.keys, [subject], table.check(), "dev")
        return LogBus(table, seal=SigningSeal(signer, AuditChain(f"{subject}-test")))

    person, agent = bus_of(f"user:{user}"), bus_of("CodeAgent")
    sent = []
    for name in names:
        content = GenerateCode(question=name).model_dump_json()
        row = message(
            name,
            correlation_id=f"c-{name}",
            from_agent=f"user:{user}",
            principal=user,
            to_agent="CodeAgent",
            kind="GenerateCode",
            content=content,
            timestamp=round(system.clock.now().timestamp() * 1e6),
        )
        person.submit([row]).result(10)
        agent.catch_up()
        reason = f"RuntimeError: {name} broke it"
        settle(agent, row, outcome, reason)
        sent.append(row)
    person.close()
    agent.close()
    return sent


def settle(bus: Any, row: Message, outcome: str, reason: str = "") -> None:
    common = {
        "correlation_id": row.correlation_id,
        "causation_id": row.message_id,
        "from_agent": "CodeAgent",
        "principal": row.principal,
        "handling_id": f"h-{row.message_id}",
        "timestamp": row.timestamp,
    }
    said = {"outcome": outcome, "reason": reason, "attempts": 3}
    fact = {"action": f"message.{outcome}", "decision": "failed", "rule": "worker.failed", "reason": reason}
    receipt = message(
        f"h-{row.message_id}",
        to_agent="",
        message_type="receipt",
        kind="Receipt",
        content=json.dumps(said, separators=(",", ":")),
        **common,
    )
    rows = [receipt]
    if outcome != "handled":
        rows.append(
            message(
                f"f-{row.message_id}",
                to_agent="*",
                message_type="event",
                kind="AuditRecorded",
                content=json.dumps(fact),
                **common,
            )
        )
    bus.submit(rows).result(10)


# --- finding ---------------------------------------------------------------------------------------------------------


def test_the_dead_are_chosen_by_sql(run: Run, home: System) -> None:
    give_up(home, "alpha", "beta", "gamma")
    assert ids(run("dead", "list", "--json")) == ["alpha", "beta", "gamma"]
    where = "reason LIKE '%beta%' AND died_at > now() - INTERVAL '1 hour' AND attempts = 3 -- and that is all"
    assert ids(run("dead", "list", "--where", where, "--json")) == ["beta"]
    assert "none of them matches" in run("dead", "list", "--where", "agent = 'X'").out
    shown = run("dead", "show", "alpha")
    assert "RuntimeError: alpha broke it" in shown.out
    assert "tailrace dead redrive alpha --as eli" in shown.out


@pytest.mark.parametrize("where", ["nonsense = 1", "1 =", "", "1) UNION SELECT 1 FROM nowhere WHERE (1=1", "agent"])
def test_what_is_no_predicate_is_misuse(run: Run, home: System, where: str) -> None:
    give_up(home, "alpha")
    said = run("dead", "redrive", "--where", where, "--as", "eli", "--yes", "--json")
    assert said.code == 2
    assert "columns are message_id" in said.json["error"]["remedy"]


def test_every_column_can_be_asked_for() -> None:
    dead = Dead(message("m", log_version=1), "A", "dead", "r", 1, 2, "eli")
    for name in COLUMNS:
        assert len(matching([dead], f"{name} IS NULL OR {name} IS NOT NULL")) == 1
    assert matching([], "nonsense") == []


# --- redriving -------------------------------------------------------------------------------------------------------


def test_a_preview_changes_nothing(run: Run, home: System) -> None:
    give_up(home, "alpha")
    said = run("dead", "redrive", "alpha", "--as", "eli", "--preview", "--json")
    assert (said.code, said.json["redriven"]) == (0, False)
    assert said.json["messages"][0]["redriven_as"].startswith("redrive-")
    assert run("dead", "show", "alpha", "--json").json["redriven_as"] is None
    assert "as delivery 2" in run("dead", "redrive", "alpha", "--as", "eli", "--preview").out


def test_without_somebody_to_ask_nothing_is_redriven(run: Run, home: System) -> None:
    give_up(home, "alpha")
    said = run("dead", "redrive", "alpha", "--as", "eli")
    assert said.code == 2
    assert "1 message would be redriven" in said.err
    assert "with --yes redrives without asking" in said.err
    said = run("dead", "redrive", "alpha", "--as", "eli", "--json")
    assert (said.json["redriven"], said.json["error"]["exit_code"]) == (False, 2)
    assert [one["message_id"] for one in said.json["messages"]] == ["alpha"]
    assert "--yes" in said.json["error"]["remedy"]
    assert run("dead", "show", "alpha", "--json").json["redriven_as"] is None
    assert run("dead", "redrive", "--as", "eli").code == 2


def test_a_redriven_message_waits_for_its_agent_once_and_is_an_audit_fact(run: Run, home: System) -> None:
    give_up(home, "alpha")
    said = run("dead", "redrive", "alpha", "--as", "ada", "--yes", "--json")
    assert (said.code, said.json["redriven"]) == (0, True)
    assert "nobody runs CodeAgent now" in said.err
    again = said.json["messages"][0]["redriven_as"]
    found = run("dead", "show", "alpha", "--json").json
    assert (found["redriven_as"], found["redriven_outcome"]) == (again, "waiting")
    steps = {one["message_id"]: one for one in run("trace", "c-alpha", "--json").json["messages"]}
    assert (steps[again]["attempt"], steps[again]["redriven_from"], steps[again]["from"]) == (2, "alpha", "user:ada")
    actions = [fact["action"] for fact in steps["alpha"]["facts"]]
    assert actions == ["message.dead", "message.redriven"]
    assert "delivery 2" in run("trace", "c-alpha").out
    assert "redriven as" in run("dead", "show", "alpha").out
    twice = run("dead", "redrive", "alpha", "--as", "ada", "--yes", "--json")
    assert (twice.code, twice.json["messages"][0]["refusal"]["rule"]) == (1, "redrive.again")
    assert run("audit", "verify").code == 0


def test_others_may_not_redrive(run: Run, home: System) -> None:
    give_up(home, "alpha")
    said = run("dead", "redrive", "alpha", "--as", "ana", "--yes", "--json")
    assert (said.code, said.json["redriven"]) == (3, False)
    assert said.json["messages"][0]["refusal"]["rule"] == "redrive.right"
    assert "only eli" in run("dead", "redrive", "alpha", "--as", "ana", "--yes").out


def test_what_matches_and_was_not_redriven_yet_is_redriven(run: Run, home: System) -> None:
    give_up(home, "alpha", "beta")
    run("dead", "redrive", "alpha", "--as", "eli", "--yes")
    said = run("dead", "redrive", "--where", "kind = 'GenerateCode'", "--as", "eli", "--yes", "--json")
    assert [one["message_id"] for one in said.json["messages"]] == ["beta"]
    none = run("dead", "redrive", "--where", "kind = 'GenerateCode'", "--as", "eli", "--yes")
    assert (none.code, none.out.strip()) == (0, "nothing to redrive")


def test_lineage_goes_both_ways() -> None:
    from workers.runtime.redrive import redriven

    first = message("m1", log_version=1, seq=0)
    second = redriven(first, "A", "eli", 5).model_copy(update={"log_version": 3, "seq": 0})

    def receipt(of: Message, version: int, outcome: str) -> Message:
        content = json.dumps({"outcome": outcome, "reason": "r"})
        return message(
            f"r{version}",
            from_agent="A",
            to_agent="",
            message_type="receipt",
            causation_id=of.message_id,
            content=content,
            log_version=version,
            seq=0,
        )

    rows = [first, receipt(first, 2, "dead"), second, receipt(second, 4, "expired")]
    one, two = dead_among(rows)
    assert (one.redriven_as, one.redriven_outcome, one.redriven_from) == (second.message_id, "expired", None)
    assert (two.redriven_as, two.redriven_from, two.outcome) == (None, "m1", "expired")
    mended = [*rows[:3], receipt(second, 4, "handled")]
    assert [d.redriven_outcome for d in dead_among(mended)] == ["handled"]


def test_a_redriven_message_reaches_its_agent_signed_and_is_tried_again(run: Run, live: System) -> None:
    sent = run(
        "send", "--to", "CodeAgent", "--kind", "Waltz", "--content", "{}", "--as", "eli", "--wait", "30", "--json"
    )
    assert sent.json["response"]["kind"] == "Failed"
    message_id = sent.json["message_id"]
    said = run("dead", "redrive", message_id, "--as", "ada", "--yes", "--json")
    assert said.code == 0, said
    assert "nobody runs" not in said.err
    again = said.json["messages"][0]["redriven_as"]
    for _ in range(100):
        (found,) = [one for one in run("dead", "list", "--json").json if one["message_id"] == message_id]
        if found["redriven_outcome"] != "waiting":
            break
    # It was taken for what it is, and the agent still does not know the dance.
    assert found["redriven_outcome"] == "rejected"
    second = run("dead", "show", again, "--json").json
    assert second["reason"].startswith("message.unknown_kind")
    assert (second["redriven_from"], second["attempt"], second["from"]) == (message_id, 2, "user:ada")
    answers = [m for m in run("trace", sent.json["correlation_id"], "--json").json["messages"] if m["kind"] == "Failed"]
    assert [(m["to"], m["causation_id"]) for m in answers] == [("user:eli", message_id)] * 2
    assert run("audit", "verify").code == 0
