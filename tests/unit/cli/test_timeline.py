"""The steps of a conversation, from recorded rows."""

from __future__ import annotations

import json
from dataclasses import replace

from apps.cli.outcome import outcome_of
from apps.cli.timeline import Step, Timeline
from schemas.envelope import Message


def shape(steps: list[Step]) -> list[object]:
    return [[s.message.kind, *shape(s.children)] if s.children else s.message.kind for s in steps if not s.deferred]


def test_a_conversation_is_a_tree_of_calls(recorded: list[Message]) -> None:
    assert shape(Timeline(recorded).roots) == [
        [
            "Ask",
            ["GenerateCode", "CodeGenerated"],
            [
                "RequestExecution",
                ["DryRunCode", "CodeDryRun"],
                [
                    "ApprovalRequested",
                    [
                        "Decide",
                        "ApprovalDecided",
                        ["RunCode", "ExecutionClaimed", "ExecutionSettled"],
                        "DecisionAnswered",
                    ],
                ],
                "CodeRun",
            ],
            "Answered",
        ]
    ]


def test_audit_facts_stand_with_the_message_that_led_to_them(recorded: list[Message]) -> None:
    facts = {s.message.kind: [f.action for f in s.facts] for s in Timeline(recorded).steps.values() if s.facts}
    assert facts["Ask"] == ["plan.chosen"]
    assert facts["Decide"] == ["grant.issued"]
    assert facts["RunCode"] == ["execution.done"]


def test_hops_are_the_messages_that_were_handled(recorded: list[Message]) -> None:
    handled = [m for m in recorded if m.kind == "Receipt" and json.loads(m.content)["outcome"] == "handled"]
    assert outcome_of(recorded).timeline.hops == len(handled) == 9


def test_what_is_due_later_waits_for_nobody_now(recorded: list[Message]) -> None:
    timeline = Timeline(recorded)
    assert timeline.open() == []
    (later,) = [step for step in timeline.steps.values() if step.deferred]
    assert later.message.kind == "ExpireApprovals"


def test_what_was_due_later_is_open_once_it_is_due(recorded: list[Message]) -> None:
    due = next(m for m in recorded if m.kind == "ExpireApprovals").not_before
    assert due is not None
    assert [agent for _, agent in Timeline(recorded, now=due).open()] == ["GovernanceAgent"]


def test_times_count_from_the_first_message(recorded: list[Message]) -> None:
    moved = [
        m.model_copy(update={"timestamp": m.timestamp + 5_000_000}) if m.kind == "Answered" else m for m in recorded
    ]
    outcome = outcome_of(moved)
    assert next(iter(outcome.timeline.steps.values())).at_ms == 0
    assert outcome.timings_ms["total"] >= 5000


def test_without_the_handler_s_time_the_split_is_not_invented(recorded: list[Message]) -> None:
    plain = [_with_receipt(m, {}) for m in recorded]
    assert outcome_of(plain).timings_ms["queued"] is None
    assert outcome_of(plain).timings_ms["handled"] is None


def test_the_handler_s_time_splits_waiting_from_working(recorded: list[Message]) -> None:
    timed = [_with_receipt(m, {"handled_ms": 0.001}) for m in recorded]
    outcome = outcome_of(timed)
    took = sum(handling.took_ms for handling in outcome.timeline.handlings())
    assert outcome.timings_ms["handled"] == round(0.001 * outcome.timeline.hops, 1)
    assert abs((outcome.timings_ms["queued"] or 0) - took) < 1


def test_a_receipt_for_nothing_we_know_is_no_step(recorded: list[Message]) -> None:
    assert Timeline([m for m in recorded if m.message_type == "receipt"]).steps == {}


def test_a_loop_of_causes_still_ends(recorded: list[Message]) -> None:
    first, second = (m for m in recorded if m.kind in ("Ask", "GenerateCode"))
    looped = [first.model_copy(update={"causation_id": second.message_id}), second]
    timeline = Timeline(looped)
    assert set(timeline.steps) == {first.message_id, second.message_id}


def _with_receipt(message: Message, update: dict[str, float]) -> Message:
    if message.kind != "Receipt":
        return message
    content = {key: value for key, value in json.loads(message.content).items() if key != "handled_ms"}
    return message.model_copy(update={"content": json.dumps(content | update)})


def test_a_step_knows_who_owes_a_receipt(recorded: list[Message]) -> None:
    ask = next(m for m in recorded if m.kind == "Ask")
    step = Step(ask, 0.0)
    assert step.waits_for == "OrchestratorAgent"
    handled = Timeline(recorded).steps[ask.message_id].handlings
    assert replace(handled[0], outcome="dead").outcome == "dead"
    step.handlings.extend(handled)
    assert step.waits_for is None
