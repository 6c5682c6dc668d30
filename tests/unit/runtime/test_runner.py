"""The runner: whatever a handler does, its message gets one receipt that the log can hold, or stays open."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from bus.errors import LogError, Untrusted
from bus.memory import MemoryBus
from bus.trust import TrustEverybody
from schemas.envelope import EVERYONE, MAX_CONTENT, Message
from schemas.payloads import Payload
from schemas.trace import new_traceparent, parse_traceparent
from tests.contract.harness import HastyClock, Ping, Pong, message
from workers.runtime.base import Context, Outgoing, Permanent, Received, Worker, event, reply
from workers.runtime.clock import micros
from workers.runtime.middleware.retry import Retry
from workers.runtime.redrive import redriven
from workers.runtime.runner import Runner


class Blob(Payload):
    text: Any


class Doer(Worker):
    """Does with each message what the test says: a function of the attempt, or an exception to raise."""

    name = "Doer"
    handles = (Ping,)

    def __init__(self, does: Any) -> None:
        self.does = does
        self.got: list[Message] = []
        self.handling: list[Any] = []

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        self.got.append(message.message)
        self.handling.append(context)
        if isinstance(self.does, BaseException):
            raise self.does
        return self.does(message, context.attempt)


def answers(message: Received, attempt: int) -> list[Outgoing]:
    return [reply(message, Pong(n=attempt))]


class Stage:
    def __init__(self, does: Any, *before: Message, trust: Any = None, may_redrive: Any = lambda user: user == "ada"):
        self.bus = MemoryBus()
        self.worker = Doer(does)
        self.clock = HastyClock()
        self.runner = Runner(
            self.worker,
            "Doer-1",
            self.bus,
            trust or TrustEverybody(),
            self.clock,
            [Retry(self.clock)],
            may_redrive=may_redrive,
        )
        self.rows: list[Message] = []

    async def handle(self, *given: Message) -> list[Message]:
        """Commit and handle these; returns what the last one left: its receipt first."""
        for one in given:
            version = self.bus.submit([one]).result(1)
            committed = one.model_copy(update={"log_version": version, "seq": 0})
            self.rows = await self.runner.handle(committed)
            await self.runner.commit(self.rows)
        return self.rows

    def outputs(self, kind: str) -> list[dict[str, Any]]:
        return [json.loads(row.content) for row in self.rows if row.kind == kind]

    @property
    def receipt(self) -> dict[str, Any]:
        (found,) = self.outputs("Receipt")
        return found


def ping(n: int = 1, **envelope: Any) -> Message:
    return message(Ping(n=n), to="Doer", **envelope)


# --- how it ends -----------------------------------------------------------------------------------------------------


async def test_a_receipt_says_how_many_attempts_it_took() -> None:
    def second(message: Received, attempt: int) -> list[Outgoing]:
        if attempt == 1:
            raise RuntimeError("not yet")
        return answers(message, attempt)

    stage = Stage(second)
    await stage.handle(ping())
    assert (stage.receipt["outcome"], stage.receipt["attempts"]) == ("handled", 2)
    assert stage.outputs("Pong") == [{"n": 2}]


async def test_a_permanent_error_is_not_tried_again() -> None:
    stage = Stage(Permanent("the table is gone for good"))
    await stage.handle(ping())
    assert len(stage.worker.got) == 1
    assert stage.receipt["outcome"] == "dead"
    assert (stage.receipt["attempts"], stage.receipt["reason"]) == (1, "the table is gone for good")
    assert stage.outputs("Failed") == [{"rule": "worker.permanent", "reason": "the table is gone for good"}]


async def test_what_nobody_wants_any_more_is_not_tried_again() -> None:
    stage = Stage(RuntimeError("no"))
    now = micros(stage.clock.now())
    await stage.handle(ping(expires_at=now + 1000))  # the first pause is longer
    assert (len(stage.worker.got), stage.receipt["outcome"], stage.receipt["attempts"]) == (1, "dead", 1)


@pytest.mark.parametrize(
    "returned",
    [
        None,
        ["no output"],
        [Outgoing("X", Blob(text=b"\xff"))],
        [Outgoing("X", Blob(text="\ud800"))],
        [Outgoing("X", Pong(n=1), priority=99)],
        [Outgoing("x" * 300, Pong(n=1))],
        [Outgoing("X", Blob(text="x" * MAX_CONTENT))],
        [Outgoing("X", Blob(text="ü" * (MAX_CONTENT // 2)))],
        [event(Pong(n=1)), Outgoing("X", Pong(n=1), not_before="soon")],
    ],
)
async def test_what_cannot_be_sent_makes_the_message_dead_and_nothing_else(returned: Any) -> None:
    stage = Stage(lambda message, attempt: returned)
    await stage.handle(ping())
    assert stage.receipt["outcome"] == "dead"
    assert [row.kind for row in stage.rows] == ["Receipt", "AuditRecorded", "Failed"]
    assert not stage.bus.state.open


@pytest.mark.parametrize(
    "error",
    [
        asyncio.CancelledError("a library's own"),
        SystemExit(3),
        RuntimeError("x" * 3 * MAX_CONTENT),
        RuntimeError("\ud800 half a character"),
        Permanent("\ud800" * MAX_CONTENT),
    ],
)
async def test_however_a_handler_fails_its_receipt_fits_into_the_log(error: BaseException) -> None:
    stage = Stage(error)
    await stage.handle(ping())
    assert stage.receipt["outcome"] == "dead"
    assert len(stage.receipt["reason"]) < 5000
    assert not stage.bus.state.open


async def test_a_handling_that_is_cancelled_leaves_its_message_open() -> None:
    never = asyncio.Event()

    class Waits(Doer):
        name = "Doer"

        async def handle(self, message: Received, context: Context) -> list[Outgoing]:
            await never.wait()
            return []

    stage = Stage(None)
    stage.runner = Runner(Waits(None), "Doer-1", stage.bus, TrustEverybody(), stage.clock, [Retry(stage.clock)])
    task = asyncio.create_task(stage.handle(ping()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(stage.bus.state.open) == 1


async def test_a_table_that_cannot_be_read_is_no_fault_of_the_message() -> None:
    stage = Stage(answers)
    read, failures = stage.bus.conversation, [OSError("away"), LogError("away")]

    def conversation(correlation_id: str) -> list[Message]:
        if failures:
            raise failures.pop()
        return read(correlation_id)

    stage.bus.conversation = conversation
    await stage.handle(ping())
    assert failures == []
    assert (stage.receipt["outcome"], stage.receipt["attempts"]) == ("handled", 1)


async def test_ids_are_the_same_for_the_same_and_nobody_else_can_guess_them() -> None:
    stage, other, one = Stage(answers), Stage(answers), ping()
    first, second, elsewhere = await stage.handle(one), await stage.handle(one), await other.handle(one)
    assert [row.message_id for row in first[1:]] == [row.message_id for row in second[1:]]
    assert first[0].message_id != second[0].message_id
    # Whoever could make them too could put a row under one into the log before us, and ours would count for nothing.
    assert not {row.message_id for row in first} & {row.message_id for row in elsewhere}


# --- expiry ----------------------------------------------------------------------------------------------------------


async def test_an_expired_message_is_an_event_and_an_answer() -> None:
    stage = Stage(answers)
    late = ping(expires_at=micros(stage.clock.now()) - 1)
    await stage.handle(late)
    assert stage.worker.got == []
    assert stage.receipt["outcome"] == "expired"
    (said,) = stage.outputs("MessageExpired")
    assert (said["message_id"], said["agent"], said["sender"]) == (late.message_id, "Doer", "user:eli")
    (expired,) = [row for row in stage.rows if row.kind == "MessageExpired"]
    assert (expired.to_agent, expired.message_type) == (EVERYONE, "event")
    assert stage.outputs("Failed")[0]["rule"] == "message.expired"
    assert stage.outputs("AuditRecorded")[0]["action"] == "message.expired"


class TrustNobody:
    def check(self, message: Message, conversation: Sequence[Message]) -> list[Message]:
        raise Untrusted("signature.missing", "not signed")


async def test_what_nobody_signed_cannot_even_expire() -> None:
    stage = Stage(answers, trust=TrustNobody())
    await stage.handle(ping(expires_at=1))
    assert stage.receipt["outcome"] == "rejected"
    assert stage.outputs("MessageExpired") == []


# --- traces ----------------------------------------------------------------------------------------------------------


async def test_outputs_are_in_the_trace_with_a_span_of_their_own() -> None:
    stage = Stage(answers)
    root = new_traceparent()
    rows = await stage.handle(ping(traceparent=root))
    came, went = parse_traceparent(root), parse_traceparent(rows[1].traceparent)
    assert came is not None
    assert went is not None
    assert (went.trace_id, went.span_id == came.span_id) == (came.trace_id, False)
    assert stage.worker.handling[0].handling.traceparent == rows[1].traceparent


# --- redriving -------------------------------------------------------------------------------------------------------


async def died(stage: Stage, **envelope: Any) -> Message:
    """A message that the worker gave up, before it was mended."""
    given = ping(conversation="c", **envelope)
    await stage.handle(given)
    assert stage.receipt["outcome"] in ("dead", "expired")
    stage.worker.does = answers
    stage.worker.got.clear()
    return given


async def test_a_redriven_message_is_what_it_was_and_answers_whoever_asked() -> None:
    stage = Stage(RuntimeError("broken"))
    dead = await died(stage)
    again = redriven(dead, "Doer", "ada", 7)
    await stage.handle(again)
    (got,) = stage.worker.got
    assert (got.message_id, got.from_agent, got.attempt) == (dead.message_id, "user:eli", 2)
    assert stage.worker.handling[-1].principal == "eli"
    receipt, answer, fact = stage.rows
    assert (receipt.causation_id, receipt.principal) == (again.message_id, "eli")
    assert (answer.to_agent, answer.causation_id) == ("user:eli", dead.message_id)
    assert fact.causation_id == again.message_id
    said = json.loads(fact.content)
    assert (said["action"], said["details"]["by"], said["details"]["original"]) == (
        "message.redriven", "user:ada", dead.message_id
    )  # fmt: skip


async def test_a_message_can_be_redriven_as_often_as_it_dies_and_no_oftener() -> None:
    stage = Stage(RuntimeError("broken"))
    dead = await died(stage)
    stage.worker.does = RuntimeError("still broken")
    second = redriven(dead, "Doer", "eli", 7)
    await stage.handle(second)
    assert redriven(dead, "Doer", "ada", 8).message_id == second.message_id  # it counts once, whoever comes second
    stage.worker.does = answers
    third = redriven(second, "Doer", "eli", 9)
    await stage.handle(third)
    assert third.attempt == 3
    assert stage.worker.got[-1].message_id == dead.message_id
    assert stage.receipt["outcome"] == "handled"
    await stage.handle(redriven(third, "Doer", "eli", 10))
    assert stage.receipt["reason"].startswith("redrive.not_given_up")


REDRIVES: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("kim", {}, {}, "redrive.right"),
    ("eli", {}, {"content": '{"n":2}'}, "redrive.altered"),
    ("eli", {}, {"message_id": "another"}, "redrive.altered"),
    ("eli", {}, {"kind": "Pong"}, "redrive.altered"),
    ("eli", {}, {"causation_id": None}, "redrive.unknown"),
    ("eli", {}, {"attempt": 3}, "redrive.altered"),
    ("eli", {}, {}, ""),
    ("ada", {}, {}, ""),
    ("ada", {"expires_at": 1}, {}, "redrive.expired"),
    ("eli", {"expires_at": 1}, {}, ""),
    ("eli", {"from_agent": "user:kim", "principal": "kim"}, {}, "redrive.others_word"),
    ("ada", {"from_agent": "user:kim", "principal": "kim"}, {}, "redrive.others_word"),
    ("ada", {"from_agent": "user:ada", "principal": "ada"}, {}, ""),
    ("ada", {"from_agent": "Asker"}, {}, ""),
    ("eli", {"from_agent": "Asker"}, {}, ""),
    ("eli", {"from_agent": "Asker"}, {"from_agent": "Asker"}, "redrive.right"),
]


@pytest.mark.parametrize(("user", "of", "changed", "rule"), REDRIVES)
async def test_who_may_have_what_delivered_again(
    user: str, of: dict[str, Any], changed: dict[str, Any], rule: str
) -> None:
    stage = Stage(answers)
    await stage.handle(ping(conversation="c"))  # eli's conversation
    stage.worker.does = RuntimeError("broken")
    dead = await died(stage, **of)
    await stage.handle(redriven(dead, "Doer", user, 7).model_copy(update=changed))
    if not rule:
        assert stage.receipt["outcome"] == "handled"
        assert [m.content for m in stage.worker.got] == [dead.content]
        return
    assert stage.receipt["outcome"] == "rejected"
    assert stage.receipt["reason"].startswith(rule)
    assert stage.worker.got == []
    (refused,) = [row for row in stage.rows if row.kind == "Refused"]
    assert refused.to_agent == stage.bus.conversation("c")[-3].from_agent


async def test_what_was_handled_is_not_redriven() -> None:
    stage = Stage(answers)
    done = ping(conversation="c")
    await stage.handle(done)
    await stage.handle(redriven(done, "Doer", "eli", 7))
    assert stage.receipt["reason"].startswith("redrive.not_given_up")
    assert len(stage.worker.got) == 1


async def test_a_forged_link_is_no_way_to_what_was_handled() -> None:
    stage = Stage(answers)
    done = ping(conversation="c")
    await stage.handle(done)
    forged = redriven(done, "Doer", "kim", 7)
    await stage.handle(forged)
    assert stage.receipt["outcome"] == "rejected"
    await stage.handle(redriven(forged, "Doer", "ada", 8))  # the forged one was given up, what it repeats was not
    assert stage.receipt["reason"].startswith("redrive.not_given_up")
    assert len(stage.worker.got) == 1


async def test_who_redrives_without_the_right_keeps_nobody_who_has_it_from_it() -> None:
    stage = Stage(RuntimeError("broken"))
    dead = await died(stage)
    first = redriven(dead, "Doer", "kim", 7)
    await stage.handle(first)
    assert stage.receipt["reason"].startswith("redrive.right")
    await stage.handle(redriven(first, "Doer", "eli", 8))
    assert stage.receipt["outcome"] == "handled"
    assert [m.message_id for m in stage.worker.got] == [dead.message_id]


async def test_an_event_is_redriven_to_the_subscriber_that_gave_it_up() -> None:
    stage = Stage(RuntimeError("broken"))
    dead = message(Ping(n=1), to=EVERYONE, conversation="c")
    stage.bus.state.subscribe("Doer", ["Ping"])
    stage.bus.state.subscribe("Other", ["Ping"])
    await stage.handle(dead)
    stage.worker.does = lambda message, attempt: []
    again = redriven(dead, "Doer", "eli", 7)
    await stage.handle(again)
    assert stage.receipt["outcome"] == "handled"
    assert [agent for _, agent in stage.bus.state.open] == ["Other"]
