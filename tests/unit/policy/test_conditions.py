"""Single conditions: names and patterns, hours and days."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.policy import Policy, When
from tests.unit.policy.questions import at, policy, question, rule
from workers.governance.policy import PolicyEngine

ALL = frozenset({"*"})


def effect(kind: str, asked: Any, **when: Any) -> str:
    """What a rule of this kind comes to, where otherwise nothing would be denied."""
    rules = [rule(kind, **when), *([rule("allow", "otherwise")] if kind == "deny" else [])]
    return PolicyEngine(policy(*rules)).decide(asked).effect


@pytest.mark.parametrize(
    ("pattern", "table", "found"),
    [
        ("tpch.customer", "tpch.customer", True),
        ("TPCH.Customer", "tpch.CUSTOMER", True),
        ("tpch.*", "tpch.orders", True),
        ("tpch.cust*r", "tpch.customer", True),
        ("*", "anything.at_all", True),
        ("*.customer", "tpch.customer", True),
        ("tpch.*", "tpch2.orders", False),
        ("tpch.*", "results.tpch", False),
        ("tpch.o", "tpch.orders", False),
        ("t.ch.*", "tpch.orders", False),
        # Perhaps it is that table of another catalogue, and perhaps it is ours.
        ("tpch.*", "main.tpch.orders", None),
        ("main.tpch.*", "tpch.orders", None),
        ("tpch.*", "tpch.a.b", False),
    ],
)
def test_patterns_of_tables(pattern: str, table: str, found: bool | None) -> None:
    asked = question(writes=table)
    assert (effect("deny", asked, writes=[pattern]) == "deny") == (found is not False)
    assert (effect("allow", asked, writes=[pattern]) == "allow") == (found is True)
    assert (effect("allow", asked, writes_only=[pattern]) == "allow") == (found is True)


@pytest.mark.parametrize(
    ("pattern", "reads", "denied"),
    [
        ("tpch.customer.c_phone", {"tpch.customer": frozenset({"c_name", "C_PHONE"})}, True),
        ("tpch.customer.c_phone", {"tpch.customer": frozenset({"c_name"})}, False),
        ("tpch.customer.c_phone", {"tpch.customer": ALL}, True),
        ("tpch.customer.c_phone", {"tpch.supplier": frozenset({"c_phone"})}, False),
        ("tpch.customer.c_phone", {"tpch.supplier": ALL}, False),
        ("tpch.customer.c_phone", {"tpch.customer": frozenset()}, False),
        ("tpch.*.*_phone", {"tpch.supplier": frozenset({"s_phone"})}, True),
        ("tpch.customer.c_phone", {"main.tpch.customer": frozenset({"c_phone"})}, True),
        ("*", {"results.x": frozenset({"a"})}, True),
        ("*", {"results.x": frozenset()}, False),
        ("*", {}, False),
        ("tpch.customer.c_phone", None, True),
    ],
)
def test_patterns_of_columns(pattern: str, reads: Any, denied: bool) -> None:
    assert (effect("deny", question(reads=reads), columns=[pattern]) == "deny") == denied


def test_two_spellings_of_a_table_are_one() -> None:
    spelled = {"tpch.Customer": frozenset({"c_phone"}), "TPCH.customer": frozenset({"c_name"})}
    for column in ("c_phone", "c_name"):
        assert effect("deny", question(reads=spelled), columns=[f"tpch.customer.{column}"]) == "deny"


def test_of_tables_read_one_is_enough_or_all_have_to_match() -> None:
    both = question(reads={"tpch.orders": ALL, "results.x": ALL})
    assert effect("allow", both, reads=["results.*"]) == "allow"
    assert effect("allow", both, reads_only=["results.*"]) == "deny"
    assert effect("allow", both, reads_only=["results.*", "tpch.*"]) == "allow"
    assert effect("allow", question(reads={}), reads_only=["results.*"]) == "allow"
    assert effect("allow", question(reads=None), reads_only=["*"]) == "deny"


def test_a_statement_that_only_reads_writes_nothing_and_any_other_perhaps() -> None:
    reading = question(statement_class="read", writes=None)
    assert effect("deny", reading, writes=["*"]) == "allow"
    assert effect("allow", reading, writes_only=["results.*"]) == "allow"
    other = question(statement_class="other", writes=None)
    assert effect("deny", other, writes=["tpch.*"]) == "deny"
    assert effect("allow", other, writes_only=["*"]) == "deny"


@pytest.mark.parametrize(
    ("window", "when", "inside"),
    [
        (("20:00", "06:00"), at(21), True),
        (("20:00", "06:00"), at(5, 59), True),
        (("20:00", "06:00"), at(6), True),
        (("20:00", "06:00"), at(6, 1), False),
        (("20:00", "06:00"), at(19, 59), False),
        (("09:00", "17:00"), at(12), True),
        (("09:00", "17:00"), at(8, 59), False),
        ((None, "06:00"), at(0), True),
        ((None, "06:00"), at(7), False),
        (("20:00", None), at(23, 59), True),
        (("20:00", None), at(0), False),
    ],
)
def test_hours(window: tuple[str | None, str | None], when: datetime, inside: bool) -> None:
    hours = {"not_before": window[0], "not_after": window[1]}
    assert (effect("deny", question(now=when), **hours) == "deny") == inside


def test_hours_and_days_are_those_of_the_policys_own_place() -> None:
    night = rule("deny", not_before="20:00", not_after="06:00")
    thursday = rule("deny", "deny.thursday", weekdays=["thu"])
    asked = question(now=at(19))  # eight in the evening in Vienna
    for zone, one, denied in (
        ("UTC", night, False),
        ("Europe/Vienna", night, True),
        ("UTC", thursday, False),
        ("Pacific/Kiritimati", thursday, True),
    ):
        decision = PolicyEngine(policy(one, rule("allow"), timezone=zone)).decide(asked)
        assert (decision.effect == "deny") == denied, (zone, one.id)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"subject": ["execution"]}, True),
        ({"subject": ["document"]}, False),
        ({"roles": ["data_engineer"]}, True),
        ({"roles": ["admin"]}, False),
        ({"principals": ["eli"]}, True),
        ({"principals": ["ada"]}, False),
        ({"environments": ["test", "dev"]}, True),
        ({"environments": ["prod"]}, False),
        ({"languages": ["sql"]}, True),
        ({"languages": ["python", "pyspark"]}, False),
        ({"classes": ["write"]}, True),
        ({"classes": ["read"]}, False),
        ({"rows_over": 99}, True),
        ({"rows_over": 100}, False),
        ({"rows_at_most": 100}, True),
        ({"rows_at_most": 99}, False),
        ({"bytes_over": 999}, True),
        ({"bytes_at_most": 999}, False),
        ({"confidence_below": 0.5}, False),
        ({"confidence_below": 0.6}, True),
        ({"confidence_at_least": 0.5}, True),
        ({"confidence_at_least": 0.6}, False),
        ({"removes_rows_over": 4}, True),
        ({"removes_rows_over": 5}, False),
        ({"replaces_rows_over": 7}, True),
        ({"replaces_rows_over": 8}, False),
        ({"roles": ["data_engineer"], "classes": ["read"]}, False),
    ],
)
def test_conditions_that_are_known(condition: dict[str, Any], holds: bool) -> None:
    assert (effect("allow", question(), **condition) == "allow") == holds
    assert (effect("deny", question(), **condition) == "deny") == holds


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ({"roles": []}, "roles is empty"),
        ({"not_before": 1320}, "in quotes"),
        ({"not_before": "22:00Z"}, "no zone of its own"),
        ({"writes": ["customer"]}, "schema.table"),
        ({"columns": ["customer.c_phone"]}, "schema.table.column"),
        ({"reads": ["tpch."]}, "schema.table"),
        ({"rows_over": 10, "rows_at_most": 10}, "never hold together"),
        ({"confidence_below": 0.5, "confidence_at_least": 0.5}, "never hold together"),
        ({"confidence_below": 50}, "less than or equal to 1"),
        ({"rows_over": -1}, "greater than or equal to 0"),
        ({"rows_over": True}, "valid integer"),
        ({"classes": ["select"]}, "Input should be 'read'"),
        ({"rowz_over": 1}, "Extra inputs"),
    ],
)
def test_conditions_that_cannot_be_meant(when: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        When.model_validate(when)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"effect": "approve"}, "says by whom"),
        ({"approval": {"needs": [{"group": "admin", "count": 1}]}}, "asks nobody"),
        ({"id": "Has Spaces"}, "pattern"),
        ({"reason": ""}, "at least 1 character"),
        ({"effect": "approve", "approval": {"needs": []}}, "at least 1 item"),
    ],
)
def test_rules_that_cannot_be_meant(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Policy.model_validate({"version": 1, "rules": [{"id": "it", "effect": "allow", "reason": "so", **changed}]})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"remind_after_s": 3600}, "would never be"),
        ({"escalate_after_s": 60}, "belong together"),
        ({"escalate_to": [{"group": "admin", "count": 1}]}, "belong together"),
        ({"needs": [{"group": "admin", "count": 1}, {"group": "admin", "count": 2}]}, "twice"),
        ({"needs": [{"group": "admin", "count": 0}]}, "greater than or equal to 1"),
    ],
)
def test_approvals_that_cannot_be_meant(changed: dict[str, Any], said: str) -> None:
    approval = {"needs": [{"group": "admin", "count": 1}], **changed}
    document = {"id": "it", "effect": "approve", "reason": "so", "approval": approval}
    with pytest.raises(ValidationError, match=said):
        Policy.model_validate({"version": 1, "rules": [document]})


def test_a_rule_is_there_once_and_a_time_zone_exists() -> None:
    with pytest.raises(ValidationError, match="there twice"):
        policy(rule("allow"), rule("allow"))
    with pytest.raises(ValidationError, match="no time zone"):
        policy(timezone="Middle/Earth")
