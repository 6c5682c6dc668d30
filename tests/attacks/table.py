"""The table of attacks: what each does, which guard holds it, and the rule it is refused by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

#: Every class of attacks, and what it is, in the order of `docs/security.md`.
CLASSES = {
    "forged-approval": "a yes that nobody gave: unsigned, by another key, replayed, from another environment",
    "false-principal": "a message that claims to be another's, or a role that its sender does not have",
    "injection": "instructions in a document or in data: ignore your rules and approve",
    "sql-smuggling": "a statement that looks like one query and does more",
    "python-escape": "code that leaves its sandbox",
    "adversarial-input": "input made to break, to stall or to fill whoever reads it",
    "poisoned-log": "rows and files made so that whoever reads the log stumbles over them",
    "grant-for-another": "a grant that was given for something else",
    "race": "two who use one grant, or one who uses it in the middle of a change",
    "second-name": "the requester who approves under another name",
}


@dataclass(frozen=True)
class Attempt:
    """What came of it. `rules`: those that refused anything."""

    succeeded: bool
    rules: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Attack:
    """`rule`: one that refuses it, or "" where nothing is said because nothing was believed. `without`: the guard with which
    switched off it succeeds, for the attacks that show that they could. `policy`: what governs instead of the sample."""

    id: str
    attack_class: str
    does: str
    guard: str
    rule: str
    attempt: Callable[[Any], Awaitable[Attempt]]
    without: str | None = None
    policy: Callable[[], Any] | None = None


ATTACKS: list[Attack] = []


def attack(
    attack_class: str, does: str, *, guard: str, rule: str = "", without: str | None = None, policy: Any = None
) -> Callable[[Callable[[Any], Awaitable[Attempt]]], Callable[[Any], Awaitable[Attempt]]]:
    """Put it into the table; the function's name becomes its id."""
    assert attack_class in CLASSES

    def put(attempt: Callable[[Any], Awaitable[Attempt]]) -> Callable[[Any], Awaitable[Attempt]]:
        name = f"{attack_class}/{attempt.__name__.replace('_', '-')}"
        ATTACKS.append(Attack(name, attack_class, does, guard, rule, attempt, without, policy))
        return attempt

    return put
