"""Input made to break, to stall or to fill whoever reads it. It succeeds if anybody else is not served afterwards."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from pydantic import ValidationError

from bus.errors import BusError
from bus.redaction import Redactor
from schemas.envelope import MAX_CONTENT, Message
from schemas.payloads import Ask, Code, CodeDryRun, GenerateCode, RequestExecution
from tests.attacks.arena import Arena
from tests.attacks.false_principals import root
from tests.attacks.table import ATTACKS, Attack, Attempt, attack
from workers.governance.lineage import Lineage

CLASS = "adversarial-input"
#: Seconds of processor time that looking at one input may take: far more than it does, far less than what does not end.
PATIENCE_S = 5.0


async def still_served(arena: Arena) -> bool:
    """Somebody else's request goes its way."""
    asked = arena.ask("ned")
    return (await arena.pending(asked)).requested.requester == "ned"


def signed(name: str, does: str, rule: str, make: Callable[[Arena], Message]) -> None:
    """A row that a real user signed with a real key."""

    async def attempt(arena: Arena) -> Attempt:
        row = make(arena)
        arena.write(row, arena.bus(row.from_agent))
        await arena.handled(row)
        return Attempt(not await still_served(arena), arena.refusals())

    ATTACKS.append(Attack(f"{CLASS}/{name}", CLASS, does, "validation", rule, attempt))


def content(text: str, kind: str = "Ask", to: str = "OrchestratorAgent") -> Callable[[Arena], Message]:
    return lambda arena: root(arena, "user:eli", "eli", to, kind=kind, content=text)


def asking(question: str) -> Callable[[Arena], Message]:
    return lambda arena: root(arena, "user:eli", "eli", payload=Ask(question=question))


def running(code: str, language: str = "sql") -> Callable[[Arena], Message]:
    said = RequestExecution(question="q", code=Code(language=language, text=code))
    return lambda arena: root(arena, "user:eli", "eli", "GovernanceAgent", payload=said)


MALFORMED = "message.malformed"
signed("no-json", "a content that is no JSON", MALFORMED, content("{"))
signed("a-number", "a content that is a number", MALFORMED, content("1e999"))
signed("a-deep-list", "a content of a hundred thousand brackets", MALFORMED, content("[" * 100_000))
signed(
    "a-deep-object",
    "objects in objects, as deep as a message holds",
    MALFORMED,
    content('{"a":' * 50_000 + "1" + "}" * 50_000),
)
signed("a-wrong-type", "a list where a text belongs", MALFORMED, content('{"question": ["a"]}'))
signed(
    "many-fields",
    "ten thousand fields nobody knows",
    MALFORMED,
    content(json.dumps({f"f{n}": n for n in range(10_000)})),
)
signed("the-same-field-twice", "one field twice, with other words", "", content('{"question": "a", "question": "b"}'))
signed("an-unknown-kind", "a kind that nobody handles", "message.unknown_kind", content("{}", kind="DropEverything"))
signed("a-kind-with-a-path", "a kind that is a path", "message.unknown_kind", content("{}", kind="../../keys"))
signed("half-a-character", "half of a surrogate pair", "", content('{"question": "\\ud800"}'))
signed(
    "nothing-but-marks",
    "text of marks that turn writing around and join letters",
    "",
    asking("\u202e\u200d\u2066" * 10_000),
)
signed("a-long-question", "a question of a million characters", "", asking("top customers " * 70_000))
signed("a-word-without-end", "one word of a million letters", "", asking("a" * 1_000_000))
signed("a-nul", "a question with NUL characters", "", asking("top\0customers\0" * 100))
signed("deep-sql", "SQL of fifty thousand brackets", "", running("SELECT " + "(" * 50_000 + "1" + ")" * 50_000))
signed(
    "wide-sql",
    "SQL with a hundred thousand columns",
    "",
    running("SELECT " + ", ".join(f"a{n}" for n in range(100_000))),
)
signed("a-language-of-ones-own", "code in a language nobody runs", "default.deny", running("x", language="bash\n#"))
signed(
    "long-lists-of-joins",
    "SQL that joins a table with itself a thousand times",
    "",
    running("SELECT 1 FROM a" + " JOIN a USING (x)" * 1000),
)


@attack(CLASS, "a content above a mebibyte", guard="size limit", without="size limit")
async def too_large(arena: Arena) -> Attempt:
    row = root(arena, "user:eli", "eli", content=json.dumps({"question": "a" * MAX_CONTENT}))
    try:
        arena.write(row, arena.bus("user:eli"))
    except BusError:
        return Attempt(not await still_served(arena), arena.refusals())
    return Attempt(True)


@attack(CLASS, "an id of a thousand characters, an empty one, a priority of a hundred", guard="envelope")
async def an_envelope_that_is_none(arena: Arena) -> Attempt:
    taken = 0
    for changed in (
        {"message_id": "x" * 1000},
        {"message_id": ""},
        {"priority": 100},
        {"priority": 0},
        {"correlation_id": ""},
        {"timestamp": 2**70},
        {"attempt": -1},
        {"message_type": "command"},
    ):
        try:
            arena.write(root(arena, "user:eli", "eli", **changed), arena.bus("user:eli"))
        except (ValidationError, BusError, OverflowError):
            continue
        taken += 1
    return Attempt(taken > 0 or not await still_served(arena), arena.refusals())


@attack(CLASS, "times at the ends of what a number holds", guard="envelope")
async def strange_times(arena: Arena) -> Attempt:
    for n, changed in enumerate(({"not_before": 2**62}, {"expires_at": 1}, {"timestamp": 0}, {"not_before": -(2**62)})):
        row = root(arena, "user:eli", "eli", message_id=f"time-{n}", correlation_id=f"time-{n}", **changed)
        try:
            arena.write(row, arena.bus("user:eli"))
        except (ValidationError, BusError, OverflowError):
            continue
    return Attempt(not await still_served(arena), arena.refusals())


@attack(CLASS, "sixty requests of one person, before the one of another", guard="fairness")
async def a_flood(arena: Arena) -> Attempt:
    bus = arena.bus("user:eli")
    rows = [
        root(
            arena,
            "user:eli",
            "eli",
            "CodeAgent",
            message_id=f"m{n}",
            correlation_id=f"m{n}",
            payload=GenerateCode(question="q"),
        )
        for n in range(60)
    ]
    bus.submit(rows).result()
    return Attempt(not await still_served(arena), arena.refusals())


def in_time(name: str, does: str, work: Callable[[], object]) -> None:
    async def attempt(arena: Arena) -> Attempt:
        began = time.process_time()
        work()
        return Attempt(time.process_time() - began > PATIENCE_S)

    ATTACKS.append(Attack(f"{CLASS}/{name}", CLASS, does, "linear time", "", attempt))


def lineage_of(text: str) -> object:
    seen = CodeDryRun(
        code_sha256="", statement_class="read", columns=[], table_versions={"tpch.customer": 0}, plan="", digest=""
    )
    return Lineage(lambda table, version: ["c_name"]).reads(Code(language="sql", text=text), seen)


in_time(
    "for-the-masks",
    "text that makes patterns go back and forth",
    lambda: Redactor.of_secrets().text("password=" * 100_000, "log"),
)
in_time(
    "for-the-keys",
    "the beginning of a key, ten thousand times",
    lambda: Redactor.of_secrets().text("-----BEGIN PRIVATE KEY-----" * 10_000, "log"),
)
in_time(
    "for-the-lineage", "SQL that a parser takes long for", lambda: lineage_of("SELECT " + "CASE WHEN 1 THEN " * 5_000)
)
