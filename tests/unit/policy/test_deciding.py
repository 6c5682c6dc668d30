"""A policy decides: what wins over what, whatever the rules and the question are."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.payloads import EffectPreview
from schemas.policy import Policy, Rule
from tests.unit.policy.questions import (
    DENIES,
    QUESTIONS,
    RULES,
    asks,
    policy,
    question,
    questions_and_what_they_turn_out_to_be,
    rule,
)
from workers.governance.policy import DEFAULT, Decision, PolicyEngine, Question

#: The machine decides how long one takes, and is shared.
LAW = settings(max_examples=50, deadline=None)

STRICTNESS = {"allow": 0, "approve": 1, "deny": 2}


def decide(asked: Question, *having: Rule) -> Decision:
    return PolicyEngine(policy(*having)).decide(asked)


def strictness(decision: Decision) -> tuple[int, dict[str, int]]:
    needs = decision.approval.needs if decision.approval else ()
    return STRICTNESS[decision.effect], {need.group: need.count for need in needs}


def is_as_strict(one: Decision, other: Decision) -> bool:
    """Whether whoever satisfies `one` satisfies `other`."""
    (level, needs), (other_level, other_needs) = strictness(one), strictness(other)
    if level != other_level:
        return level > other_level
    return all(needs.get(group, 0) >= count for group, count in other_needs.items())


# --- by hand -----------------------------------------------------------------------------------------------------------


def test_deny_wins_then_the_first_then_the_default() -> None:
    allow, ask, deny = rule("allow"), rule("approve"), rule("deny")
    assert decide(question(), allow, ask, deny).rule == "deny.it"
    assert decide(question(), allow, ask).effect == "allow"
    assert decide(question(), ask, allow).effect == "approve"
    nothing = decide(question())
    assert (nothing.effect, nothing.rule) == ("deny", DEFAULT)
    assert "eli (data_engineer)" in nothing.reason


def test_a_decision_names_rule_reason_and_policy() -> None:
    having = policy(rule("approve", "results.write", asks(2)))
    decision = PolicyEngine(having).decide(question())
    assert (decision.rule, decision.reason, decision.policy) == ("results.write", "approve it", having.digest)
    assert decision.approval == asks(2)


def test_unknown_rows_deny_and_do_not_allow() -> None:
    unknown = question(rows=None)
    assert decide(unknown, rule("deny", rows_over=10), rule("allow")).effect == "deny"
    assert decide(unknown, rule("allow", rows_at_most=10**9)).effect == "deny"
    assert "not known" in decide(unknown, rule("deny", rows_over=10)).reason
    # Not even where a rule asks for approval: it would not, if there were more rows than that.
    assert decide(unknown, rule("approve", rows_at_most=10)).rule == DEFAULT


def test_where_it_is_not_known_which_rule_it_is_all_have_to_be_satisfied() -> None:
    large = rule("approve", "large", asks(2, "stewards", grant_ttl_s=60), rows_over=1000)
    small = rule("approve", "small", asks(1, "admin", expires_after_s=100, remind_after_s=50))
    decision = decide(question(rows=None), large, small)
    assert (decision.effect, decision.rule) == ("approve", "large")
    assert decision.approval is not None
    assert {need.group: need.count for need in decision.approval.needs} == {"stewards": 2, "admin": 1}
    assert (decision.approval.expires_after_s, decision.approval.grant_ttl_s) == (100, 60)
    assert decide(question(rows=5), large, small).approval == small.approval


def test_escalation_by_one_rule_only_is_none_where_both_count() -> None:
    large = rule("approve", "large", asks(2), rows_over=1000)
    small = rule("approve", "small", asks(1, escalate_after_s=10, escalate_to=asks().needs))
    decision = decide(question(rows=None), large, small)
    assert decision.approval is not None
    assert (decision.approval.escalate_after_s, decision.approval.escalate_to) == (None, ())


def test_before_the_dry_run_only_what_is_certain_is_denied() -> None:
    asked = Question("execution", "eli", "data_engineer", "test", question().now, language="sql")
    engine = PolicyEngine(policy(rule("deny", rows_over=1), rule("approve", classes=["read"])))
    assert engine.before_dry_run(asked).effect == "allow"
    assert engine.decide(asked).effect == "deny"
    certain = PolicyEngine(policy(rule("deny", languages=["sql"]), rule("approve")))
    assert certain.before_dry_run(asked).rule == "deny.it"
    hopeless = PolicyEngine(policy(rule("approve", languages=["python"]), rule("allow", roles=["admin"])))
    assert hopeless.before_dry_run(asked).rule == DEFAULT


def test_what_is_said_of_statements_says_nothing_of_documents() -> None:
    document = Question("document", "kim", "knowledge_curator", "test", question().now)
    for condition in ({"classes": ["read"]}, {"rows_at_most": 5}, {"reads_only": ["tpch.*"]}, {"columns": ["*"]}):
        assert decide(document, rule("approve", **condition)).rule == DEFAULT
        assert decide(document, rule("deny", **condition), rule("approve")).effect == "approve"


def test_every_rule_is_explained() -> None:
    engine = PolicyEngine(
        policy(
            rule("deny", "a.admin", roles=["admin"], classes=["drop"]),
            rule("approve", "b.rows", rows_over=10),
            rule("allow", "cc"),
        )
    )
    looks = engine.explain(question(rows=None))
    assert [(look.rule.id, look.truth) for look in looks] == [("a.admin", False), ("b.rows", None), ("cc", True)]
    assert [condition.name for condition in looks[0].because] == ["roles", "classes"]
    assert [condition.fact for condition in looks[1].because] == ["rows"]


# --- whatever the rules ------------------------------------------------------------------------------------------------


@LAW
@given(RULES, QUESTIONS, st.integers(0, 6))
def test_a_rule_that_denies_everything_denies_everything(having: list[Rule], asked: Question, where: int) -> None:
    assert decide(asked, *having[:where], rule("deny", "nothing.ever"), *having[where:]).effect == "deny"


@LAW
@given(RULES, DENIES, QUESTIONS)
def test_more_rules_that_deny_never_let_more_happen(having: list[Rule], more: list[Rule], asked: Question) -> None:
    more = [one.model_copy(update={"id": f"more.{one.id}"}) for one in more]
    before, after = decide(asked, *having), decide(asked, *having, *more)
    assert is_as_strict(after, before)


@LAW
@given(st.data(), RULES, QUESTIONS)
def test_where_the_rules_that_deny_stand_makes_no_difference(
    data: st.DataObject, having: list[Rule], asked: Question
) -> None:
    others = [one for one in having if one.effect != "deny"]
    moved = data.draw(st.permutations([one for one in having if one.effect == "deny"]))
    before, after = decide(asked, *having), decide(asked, *moved, *others)
    assert (before.effect, before.approval) == (after.effect, after.approval)


@LAW
@given(RULES, questions_and_what_they_turn_out_to_be())
def test_not_to_know_never_lets_happen_what_knowing_would_not(
    having: list[Rule], asked: tuple[Question, Question]
) -> None:
    unknown, known = asked
    assert is_as_strict(decide(unknown, *having), decide(known, *having))


@LAW
@given(RULES, questions_and_what_they_turn_out_to_be())
def test_what_is_denied_before_the_dry_run_is_denied_after_it(
    having: list[Rule], asked: tuple[Question, Question]
) -> None:
    unknown, known = asked
    engine = PolicyEngine(policy(*having))
    if engine.before_dry_run(unknown).effect == "deny":
        assert engine.decide(known).effect == "deny"


@LAW
@given(RULES, QUESTIONS)
def test_a_decision_is_explained_by_its_own_rule(having: list[Rule], asked: Question) -> None:
    engine = PolicyEngine(policy(*having))
    decision = engine.decide(asked)
    truths = {look.rule.id: look.truth for look in engine.explain(asked)}
    assert truths.get(decision.rule) is not False
    if decision.rule == DEFAULT:
        assert True not in truths.values()


@LAW
@given(RULES)
def test_a_policy_says_the_same_after_a_journey_through_json(having: list[Rule]) -> None:
    said = policy(*having)
    assert Policy.model_validate_json(said.model_dump_json()).digest == said.digest


def test_two_policies_that_differ_have_two_digests() -> None:
    assert policy(rule("allow")).digest != policy(rule("allow", roles=["admin"])).digest


@pytest.mark.parametrize(
    ("effect", "removed", "replaced"),
    [
        (None, None, None),
        (EffectPreview(table="t", version=None, rows_before=None, rows_after=9, added=9, changed=0, removed=0), 0, 0),
        (EffectPreview(table="t", version=1, rows_before=9, rows_after=7, added=0, changed=2, removed=2), 2, 4),
        (EffectPreview(table="t", version=1, rows_before=9, rows_after=7, added=0, changed=None, removed=2), 2, None),
        (
            EffectPreview(table="t", version=1, rows_before=9, rows_after=None, added=None, changed=None, removed=None),
            None,
            None,
        ),
    ],
)
def test_what_is_lost(effect: EffectPreview | None, removed: int | None, replaced: int | None) -> None:
    asked = question(changes=effect)
    for name, found in (("removes_rows_over", removed), ("replaces_rows_over", replaced)):
        for limit in (0, 1, 3):
            allowed = decide(asked, rule("deny", **{name: limit}), rule("allow")).effect == "allow"
            assert allowed == (found is not None and found <= limit)
    assert (
        decide(
            replace(asked, statement_class="read", writes=None), rule("deny", removes_rows_over=0), rule("allow")
        ).effect
        == "allow"
    )
