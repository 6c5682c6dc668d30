"""Policies as files: what is wrong is said with file, rule, field and remedy; what is right is one policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from config.roles import Role, Roles
from jobs.policies import BadPolicy, load_policy
from tests.unit.policy.questions import NOON, question
from workers.governance.policy import DEFAULT, PolicyEngine, Question

ROLES = Roles.load("dev")
ALLOW = {"id": "it", "effect": "allow", "reason": "so", "when": {"subject": ["execution"]}}


def asking(*needs: tuple[str, int], **more: Any) -> dict[str, Any]:
    approval = {"needs": [{"group": group, "count": count} for group, count in needs], **more}
    return {**ALLOW, "effect": "approve", "approval": approval}


def write(path: Path, *rules: dict[str, Any], **more: Any) -> Path:
    path.write_text(yaml.safe_dump({"version": 1, "rules": list(rules), **more}))
    return path


def problems(place: Path, roles: Roles = ROLES) -> list[str]:
    with pytest.raises(BadPolicy) as raised:
        load_policy(roles, place)
    return list(raised.value.problems)


# --- the sample ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample() -> PolicyEngine:
    loaded = load_policy(ROLES)
    assert loaded.warnings == ()
    return PolicyEngine(loaded.policy)


ORDERS = {"tpch.orders": frozenset({"*"})}


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"statement_class": "read", "writes": None}, "execution.four_eyes"),
        ({"statement_class": "create"}, "execution.four_eyes"),
        ({"statement_class": "create", "language": "pyspark"}, "execution.four_eyes"),
        ({"statement_class": "create", "writes": "tpch.orders"}, "sources.read_only"),
        ({"statement_class": "read", "writes": None, "reads": {"secrets.keys": frozenset({"*"})}}, DEFAULT),
        ({"role": "data_analyst", "principal": "ana", "statement_class": "read", "writes": None}, DEFAULT),
        ({"reads": {"tpch.customer": frozenset({"c_phone"})}}, "customer.contact_data"),
        ({"reads": {"tpch.customer": frozenset({"*"})}}, "customer.contact_data"),
        ({"reads": {"tpch.customer": frozenset({"*"})}, "role": "admin", "principal": "ada"}, "results.write"),
        ({}, "results.write"),
        ({"changes": None}, "results.large_write"),
        ({"statement_class": "delete"}, DEFAULT),
        ({"statement_class": "delete", "role": "admin", "principal": "ada"}, "results.delete"),
        ({"statement_class": "drop", "role": "admin", "principal": "ada"}, "results.drop"),
        ({"statement_class": "grant", "role": "admin", "principal": "ada"}, "privileges.never"),
        ({"statement_class": "alter", "changes": None}, "results.write"),
        ({"statement_class": "alter", "writes": "tpch.orders"}, "sources.read_only"),
        ({"language": "restore"}, "results.undo"),
        ({"environment": "prod", "now": NOON.replace(hour=22)}, "prod.quiet_at_night"),
        ({"environment": "prod"}, "results.write"),
    ],
)
def test_the_sample_decides_executions(sample: PolicyEngine, changed: dict[str, Any], rule: str) -> None:
    assert sample.decide(question(**{"reads": ORDERS, **changed})).rule == rule


@pytest.mark.parametrize(
    ("subject", "role", "rule"),
    [
        ("retraining", "data_engineer", "retraining.four_eyes"),
        ("retraining", "data_analyst", DEFAULT),
        ("promotion", "admin", "promotion.two_stewards"),
        ("promotion", "data_engineer", DEFAULT),
        ("document", "knowledge_curator", "document.curated"),
        ("document", "data_analyst", DEFAULT),
        ("document", "agent", "document.curated"),
    ],
)
def test_the_sample_decides_what_is_no_code(sample: PolicyEngine, subject: Any, role: str, rule: str) -> None:
    assert sample.decide(Question(subject, "somebody", role, "dev", NOON)).rule == rule


def test_nothing_in_the_sample_happens_without_a_person(sample: PolicyEngine) -> None:
    assert {rule.effect for rule in sample.policy.rules} == {"deny", "approve"}


def test_a_group_of_roles_is_the_people_who_have_them(sample: PolicyEngine) -> None:
    assert sample.policy.groups["stewards"] == ("ada", "eli", "kim")


# --- several files -----------------------------------------------------------------------------------------------------


def test_files_are_one_policy_in_the_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path / "20.yaml", {**ALLOW, "id": "second"}, groups={"team": ["eli"]})
    write(tmp_path / "10.yaml", {**ALLOW, "id": "first"}, timezone="Europe/Vienna")
    (tmp_path / "notes.txt").write_text("no policy")
    loaded = load_policy(ROLES, tmp_path)
    assert [rule.id for rule in loaded.policy.rules] == ["first", "second"]
    assert (loaded.policy.timezone, loaded.policy.groups) == ("Europe/Vienna", {"team": ("eli",)})
    assert loaded.file_of == {"first": str(tmp_path / "10.yaml"), "second": str(tmp_path / "20.yaml")}


def test_a_rule_a_group_or_a_time_zone_in_two_files_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", ALLOW, groups={"team": ["eli"]}, timezone="UTC")
    write(tmp_path / "b.yaml", ALLOW, groups={"team": ["ana"]}, timezone="Europe/Vienna")
    found = problems(tmp_path)
    assert len(found) == 3
    assert f"{tmp_path / 'b.yaml'}: rule it: {tmp_path / 'a.yaml'} has a rule of that name already" in found[0]
    assert "groups.team" in found[1]
    assert "timezone" in found[2]


def test_a_file_of_the_same_name_replaces_the_packages_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "policies").mkdir()
    write(tmp_path / "policies" / "default.yaml", ALLOW)
    write(tmp_path / "policies" / "more.yaml", {**ALLOW, "id": "other"})
    monkeypatch.setenv("TAILRACE_CONFIG", str(tmp_path))
    assert [rule.id for rule in load_policy(ROLES).policy.rules] == ["it", "other"]


def test_the_digest_is_that_of_the_meaning(tmp_path: Path) -> None:
    one = tmp_path / "one.yaml"
    write(one, ALLOW)
    other = tmp_path / "other.yaml"
    other.write_text(
        "# the same\nrules: [{reason: so, id: it, effect: allow, when: {subject: [execution]}}]\nversion: 1\n"
    )
    assert load_policy(ROLES, one).policy.digest == load_policy(ROLES, other).policy.digest
    write(other, {**ALLOW, "effect": "deny"})
    assert load_policy(ROLES, one).policy.digest != load_policy(ROLES, other).policy.digest


# --- what is wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({**ALLOW, "when": {"rowz_over": 1}}, "rule it: when: there is no rowz_over (did you mean rows_over?)"),
        (
            {**ALLOW, "when": {"classes": ["select"]}},
            "rule it: when.classes.0: 'select' will not do: input should be 'read'",
        ),
        (
            {**ALLOW, "when": {"not_before": 1320}},
            "rule it: when.not_before: 1320 will not do: a time of day is written in quotes",
        ),
        (
            {**ALLOW, "when": {"roles": ["data_enginer"]}},
            "rule it: when.roles: there is no data_enginer (did you mean data_engineer?)",
        ),
        ({**ALLOW, "when": {"principals": ["elli"]}}, "rule it: when.principals: there is no elli (did you mean eli?)"),
        ({"id": "it", "effect": "allow"}, "rule it: reason: it is missing"),
        ({"effect": "allow", "reason": "so"}, "rule number 1: id: it is missing"),
        (
            {**ALLOW, "effect": "maybe"},
            "rule it: effect: 'maybe' will not do: input should be 'allow', 'deny' or 'approve'",
        ),
        ({**ALLOW, "effect": "approve"}, "rule it: a rule that asks for approval says by whom"),
        ({**ALLOW, "efect": "allow"}, "there is no efect (did you mean effect?)"),
        (asking(("admins", 1)), "approval.needs: there is no group or role admins (did you mean admin?)"),
        (asking(("admin", 2)), "2 of admin have to say yes and only 1 belong to it (ada); lower the count"),
        (asking(("admin", 1), ("nobody_here", 1)), "there is no group or role nobody_here"),
    ],
)
def test_what_is_wrong_with_a_rule_is_named(tmp_path: Path, rule: dict[str, Any], said: str) -> None:
    path = write(tmp_path / "mine.yaml", rule)
    (found,) = problems(path)
    assert found.startswith(f"{path}: ")
    assert said in found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 1\nrules: [", "it is not YAML"),
        ("- a\n- b", "expected `version: 1` and a list of `rules`"),
        ("", "expected `version: 1` and a list of `rules`"),
        ("version: 2\nrules: []", "version: 2 will not do"),
        ("version: 1", "rules: it is missing"),
        ("version: 1\nrules: []\ntimezone: Nowhere/Land", "timezone: 'Nowhere/Land' is no time zone"),
        ("version: 1\nrules: []\nrules: []", "'rules' is there twice"),
        (
            "version: 1\nrules: []\ngroups: {team: [eli, elli]}",
            "groups.team: elli is no role and nobody's name (did you mean eli?)",
        ),
        ("version: 1\nrules: []\ngroups: {admin: [eli]}", "groups.admin: that is the name of a role or of a person"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    (found,) = problems(path)
    assert found.startswith(f"{path}: ")
    assert said in found


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", {**ALLOW, "when": {"classes": ["select"], "rowz": 1}})
    write(tmp_path / "b.yaml", {**ALLOW, "effect": "maybe"})
    assert len(problems(tmp_path)) == 3


def test_a_place_without_policies_is_an_error(tmp_path: Path) -> None:
    assert "there is no policy in this folder" in problems(tmp_path)[0]
    assert "no such file" in problems(tmp_path / "nothing")[0]


# --- what is hardly meant ----------------------------------------------------------------------------------------------


def test_what_is_hardly_meant_is_a_warning(tmp_path: Path) -> None:
    def warnings(*rules: dict[str, Any], roles: Roles = ROLES) -> list[str]:
        return list(load_policy(roles, write(tmp_path / "mine.yaml", *rules)).warnings)

    assert warnings(ALLOW) == []
    (said,) = warnings({**ALLOW, "when": {}})
    assert "rule it: when.subject is left out" in said
    (said,) = warnings({**ALLOW, "effect": "deny", "when": {}})
    assert "everything is denied" in said
    (said,) = warnings(asking(("admin", 1)))
    assert "when ada asks, 1 of admin cannot say yes" in said
    assert warnings({**asking(("admin", 1)), "when": {"subject": ["execution"], "roles": ["data_engineer"]}}) == []
    escalating = asking(("admin", 1), escalate_after_s=60, escalate_to=[{"group": "data_engineer", "count": 1}])
    assert warnings(escalating) == []
    two = Roles(ROLES.roles, {**ROLES.users, "bea": "admin"})
    assert warnings(asking(("admin", 1)), roles=two) == []
    robots = Roles(
        {**ROLES.roles, "robot": Role(description="a program", permissions=frozenset(), bot=True)},
        {**ROLES.users, "rob": "robot"},
    )
    (said,) = problems(write(tmp_path / "mine.yaml", asking(("robot", 1))), robots)
    assert "only 0 belong to it" in said
