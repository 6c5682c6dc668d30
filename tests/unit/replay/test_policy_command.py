"""`tailrace policy` as a person, and as a script, meets it; `policy test` on what was really decided."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from apps.cli.main import app
from config import files
from jobs.agents import AGENTS
from schemas.payloads import Code, Refused, RequestApproval, RequestExecution
from tests.fakes import eventually
from tests.unit.replay.conftest import Recorded, Said
from tests.unit.replay.recorded import RecordedSystem, make_home, versions

Policies = Callable[..., str]


@pytest.fixture
def policies(tmp_path: Path) -> Policies:
    """The sample as a file, changed: rules by id, None takes one away; `first` goes before all others."""

    def write(first: dict[str, Any] | None = None, **changed: dict[str, Any] | None) -> str:
        document = yaml.safe_load(files.text("policies/default.yaml"))
        by_id = {rule["id"]: rule for rule in document["rules"]}
        for name, change in changed.items():
            rule = by_id[name.replace("__", ".")]
            if change is None:
                document["rules"].remove(rule)
            else:
                rule.update(change)
        document["rules"] = [*([first] if first else []), *document["rules"]]
        path = tmp_path / "policy.yaml"
        path.write_text(yaml.safe_dump(document))
        return str(path)

    return write


def tailrace(*words: str) -> Said:
    done = CliRunner().invoke(app, ["policy", *words])
    return Said(done.exit_code, done.stdout, done.stderr)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


# --- check, show, explain ------------------------------------------------------------------------------------------------


def test_check_says_what_is_wrong_and_exits_with_2(tmp_path: Path, policies: Policies) -> None:
    good = tailrace("check", "--json")
    assert (good.code, good.json["ok"], good.json["warnings"]) == (0, True, [])
    bad = policies(execution__four_eyes={"when": {"clases": ["read"]}}, results__drop={"effect": "perhaps"})
    said = tailrace("check", "--policy", bad, "--json")
    assert (said.code, said.json["ok"], len(said.json["problems"])) == (2, False, 2)
    assert "rule execution.four_eyes: when: there is no clases (did you mean classes?)" in said.json["problems"][0]
    shown = tailrace("check", "--policy", bad)
    assert (shown.code, "2 problems: the policy cannot be used" in shown.out) == (2, True)
    assert tailrace("check", "--policy", str(tmp_path / "nothing.yaml")).code == 2


def test_other_commands_refuse_a_policy_that_cannot_be_used(policies: Policies) -> None:
    said = tailrace("show", "--policy", policies(results__drop={"effect": "perhaps"}), "--json")
    assert said.code != 0
    assert "rule results.drop: effect" in said.json["error"]["cause"]


def test_show_has_every_rule_and_the_digest() -> None:
    document = tailrace("show", "--json").json
    shown = tailrace("show").out
    for rule in document["policy"]["rules"]:
        assert rule["id"] in shown
    assert document["digest"] in shown
    assert "default.deny" in shown
    assert "reminds after 15 min" in shown


def test_explain_names_the_rule_that_decides_and_why_others_do_not() -> None:
    asked = ("explain", "--as", "eli", "--language", "sql", "--class", "read", "--reads", "tpch.customer.c_phone")
    document = tailrace(*asked, "--json").json
    assert (document["effect"], document["rule"]) == ("deny", "customer.contact_data")
    because = {one["rule"]: (one["holds"], one["because"]) for one in document["rules"]}
    assert because["sources.read_only"] == (False, ["writes"])
    assert because["execution.four_eyes"] == (True, [])
    shown = tailrace(*asked).out
    assert shown.startswith("deny by customer.contact_data: ")
    assert "writes tpch.*: it writes nothing" in shown


def test_explain_says_what_is_not_known() -> None:
    asked = ("--as", "eli", "--language", "sql", "--class", "write", "--writes", "results.x", "--reads", "none")
    shown = tailrace("explain", *asked)
    assert "the rows replaced are not known" in shown.out
    known = tailrace("explain", *asked, "--removes", "0", "--changes", "5", "--json").json
    assert (known["rule"], known["approval"]["needs"]) == ("results.write", [{"group": "admin", "count": 1}])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "it is not said who asks"),
        (("--as", "nobody"), "nobody has no role"),
        (("--as", "eli", "--class", "select"), "--class select is none of read, create"),
        (("--as", "eli", "--reads", "customer"), "neither schema.table nor schema.table.column"),
        (("--as", "eli", "--at", "tomorrow"), "no ISO time"),
    ],
)
def test_misuse_of_explain(words: tuple[str, ...], said: str) -> None:
    found = tailrace("explain", *words, "--json")
    assert found.code == 2
    assert said in found.json["error"]["cause"]


# --- test: a home where a request was approved ---------------------------------------------------------------------------


@pytest.fixture
def approved(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    monkeypatch.setenv("TAILRACE_HOME", str(recorded.system.home.root))
    return recorded


def test_the_policy_in_force_decides_as_it_did_and_nothing_is_written(approved: Recorded) -> None:
    before = versions(approved.system)
    said = tailrace("test", "--json", "--fail-on-change")
    assert said.code == 0, said.out
    assert (said.json["requests"], said.json["verdicts"], said.json["changes"]) == (1, {"same": 1}, [])
    assert versions(approved.system) == before


def test_a_rule_that_denies_would_have_refused_what_ada_approved(approved: Recorded, policies: Policies) -> None:
    deny = {"id": "no.results", "effect": "deny", "reason": "results are closed", "when": {"writes": ["results.*"]}}
    path = policies(deny)
    said = tailrace("test", "--policy", path, "--json", "--fail-on-change")
    assert said.code == 1
    assert said.json["verdicts"] == {"stricter": 1}
    (change,) = said.json["changes"]
    assert change["correlation_id"] == approved.said["executed"]
    assert (change["principal"], change["statement"]) == ("eli", "create sql results.best")
    then, now = change["then"], change["now"]
    assert (then["effect"], then["rule"], then["people"]) == ("approve", "execution.four_eyes", "approved by ada")
    assert (now["effect"], now["rule"], now["reason"]) == ("deny", "no.results", "results are closed")
    shown = tailrace("test", "--policy", path)
    assert shown.code == 0
    assert "1 stricter" in shown.out
    assert "approved by ada" in shown.out


def test_a_rule_that_allows_would_have_asked_nobody(approved: Recorded, policies: Policies) -> None:
    allow = {
        "id": "all.of.it",
        "effect": "allow",
        "reason": "so",
        "when": {"subject": ["execution"], "classes": ["create"]},
    }
    (change,) = tailrace("test", "--policy", policies(allow), "--json").json["changes"]
    assert (change["verdict"], change["now"]["effect"], change["now"]["rule"]) == ("looser", "allow", "all.of.it")


def test_other_people_are_a_change_and_another_name_of_a_rule_is_none(approved: Recorded, policies: Policies) -> None:
    approval = {"needs": [{"group": "stewards", "count": 2}]}
    (change,) = tailrace("test", "--policy", policies(execution__four_eyes={"approval": approval}), "--json").json[
        "changes"
    ]
    assert (change["verdict"], change["now"]["needs"]) == ("other_people", [{"group": "stewards", "count": 2}])
    assert (
        tailrace("test", "--policy", policies(execution__four_eyes={"id": "renamed"}), "--json").json["changes"] == []
    )


def test_a_rule_about_columns_is_tried_on_the_sql_that_was_recorded(approved: Recorded, policies: Policies) -> None:
    def verdict(column: str) -> dict[str, int]:
        when = {"columns": [f"tpch.customer.{column}"]}
        return tailrace(
            "test", "--policy", policies({"id": "hidden", "effect": "deny", "reason": "so", "when": when}), "--json"
        ).json["verdicts"]

    assert verdict("c_name") == {"stricter": 1}
    assert verdict("c_acctbal") == {"same": 1}


def test_only_the_span_that_was_asked_for(approved: Recorded) -> None:
    assert tailrace("test", "--from", "1000000", "--json").json["requests"] == 0
    assert "nothing to compare" in tailrace("test", "--from", "1000000").out
    assert tailrace("test", "--from", "yesterday", "--json").code == 2


# --- test: a home where requests were refused ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> RecordedSystem:
    """Recorded once: ana may not, eli reads too much, eli may not promote, and eli's retraining waits for somebody."""
    system = make_home(tmp_path_factory.mktemp("refused") / "home")
    asyncio.run(_refuse(system))
    return system


async def _refuse(system: RecordedSystem) -> None:
    host = await asyncio.to_thread(
        system.host, [agent for agent in AGENTS if agent.short in ("governance", "execution")], "tail"
    )
    await host.start()
    everything = RequestExecution(question="everybody", code=Code(language="sql", text="SELECT * FROM tpch.customer"))
    try:
        with system.client("ana") as ana, system.client("eli") as eli:
            for client, payload in (
                (ana, everything),
                (eli, everything),
                (eli, RequestApproval(subject="promotion", name="prompt 3", digest="0" * 64, summary="")),
            ):
                answer = await asyncio.to_thread(client.wait, client.send("GovernanceAgent", payload), 20)
                assert answer.kind == Refused.kind()
            retraining = RequestApproval(subject="retraining", name="ranker", digest="1" * 64, summary="")
            sent = eli.send("GovernanceAgent", retraining)
            await eventually(
                lambda: [m for m in eli.conversation(sent.correlation_id) if m.kind == "ApprovalRequested"]
            )
    finally:
        await host.stop()


def test_what_was_refused_is_compared_as_well(
    refused: RecordedSystem, monkeypatch: pytest.MonkeyPatch, policies: Policies
) -> None:
    monkeypatch.setenv("TAILRACE_HOME", str(refused.home.root))
    same = tailrace("test", "--json").json
    assert (same["requests"], same["verdicts"]) == (4, {"same": 4})
    deny = {"id": "no.training", "effect": "deny", "reason": "not now", "when": {"subject": ["retraining"]}}
    changes = tailrace("test", "--policy", policies(deny, customer__contact_data=None), "--json").json["changes"]
    found = {change["question"]: change for change in changes}
    assert set(found) == {"everybody", "ranker"}  # what a role may not ask for is not the policy's to give
    everybody, ranker = found["everybody"], found["ranker"]
    assert (everybody["verdict"], everybody["then"]["rule"], everybody["now"]["rule"]) == (
        "looser",
        "customer.contact_data",
        "execution.four_eyes",
    )
    assert (ranker["verdict"], ranker["then"]["people"], ranker["now"]["rule"]) == (
        "stricter",
        "pending",
        "no.training",
    )
    assert json.dumps(changes)
