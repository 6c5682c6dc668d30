"""Rows that whoever has a key may write, made so that whoever reads the log stumbles over them; and files changed around it."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus.errors import BusError
from bus.keyring_watch import LOOK_S, WatchedKeyring
from bus.keys import Signer, create_keys
from schemas.envelope import Message
from tests.attacks.table import ATTACKS, Attack, Attempt

if TYPE_CHECKING:
    from jobs.bootstrap import System

CLASS = "poisoned-log"
DEEP = "[" * 5000
#: What each does to a home.
POISONS: list[Callable[[System], None]] = []


@dataclass(frozen=True)
class Place:
    """A home of its own, with a history; and a folder of the attacker's."""

    system: System
    scratch: Path


def row(kind: str, content: str, **changed: Any) -> Message:
    """As eli would write it."""
    said = {
        "message_id": uuid.uuid4().hex,
        "correlation_id": uuid.uuid4().hex,
        "from_agent": "user:eli",
        "principal": "eli",
        "to_agent": "*",
        "message_type": "event",
        "kind": kind,
        "content": content,
        "timestamp": time.time_ns() // 1000,
    }
    return Message(**(said | changed))


def write(system: System, rows: list[Message]) -> None:
    """With eli's key, by hand: no client of ours looks at it before."""
    from bus.log import rows as codec

    table = system.log("agent_messages")
    signer = Signer.load(system.home.keys, ["user:eli"], table.check(), system.settings.env)
    version = table.head() + 1
    # Without the numbers that our writers say about a file: they refuse to say some that it may hold.
    table.put(version, codec.to_arrow(signer.sign_all(rows), version))


def write_entry(system: System, **changed: Any) -> None:
    """Without any key, as the text of an entry of the log: its row need not even be one."""
    table = system.log("agent_messages")
    from bus.log import rows as codec

    good = row("Ask", '{"question": "x"}', message_type="request", to_agent="OrchestratorAgent")
    table.put_encoded(table.head() + 1, codec.encode([good], table.head() + 1, []))
    path = table.path / "_delta_log" / f"{table.head():020}.json"
    actions = [json.loads(line) for line in path.read_text().splitlines()]
    actions[0]["commitInfo"]["tailrace"]["rows"][0] |= changed
    path.write_text("".join(f"{json.dumps(action)}\n" for action in actions))


def is_read(system: System) -> bool:
    """Whether whoever begins now, who audits, who anchors and who keeps the log in shape get through it."""
    from bus.log.follower import Follower
    from jobs.audit import verify
    from jobs.audit.anchoring import anchor_log

    try:
        with system.client("ana") as ana:
            ana.conversation("nobody's")
        Follower(system.log("agent_messages"))
        verify(system, [])
        anchor_log(system)
        system.upkeep("agent_messages").run(force=True)
    except (RuntimeError, ValueError, TypeError, KeyError, ArithmeticError, BusError):
        return False
    return True


def _put(name: str, does: str, poison: Callable[[System], None], without: str | None = None) -> None:
    POISONS.append(poison)

    async def attempt(place: Place) -> Attempt:
        poison(place.system)
        return Attempt(not is_read(place.system))

    ATTACKS.append(Attack(f"{CLASS}/{name}", CLASS, does, "careful reading", "", attempt, without))


def _signed(name: str, does: str, kind: str, content: str, without: str | None = None, **changed: Any) -> None:
    _put(name, does, lambda system: write(system, [row(kind, content, **changed)]), without)


def _receipt(name: str, does: str, content: str) -> None:
    _signed(name, does, "Receipt", content, message_type="receipt", to_agent="x", causation_id="no message")


_ORDER = {"message_type": "request", "to_agent": "ExecutionAgent"}
_signed("a-deep-lease", "a lease of brackets without end", "InstanceChanged", DEEP, "careful reading")
_signed("a-deep-claim", "a claim on a grant of brackets without end", "ExecutionClaimed", DEEP, "careful reading")
_signed("a-deep-fact", "an audit fact of brackets without end", "AuditRecorded", DEEP)
_signed("a-deep-order", "an order to the executor of brackets without end", "RunCode", DEEP, **_ORDER)
_signed("a-deep-approval", "an approval of brackets without end", "ApprovalRequested", DEEP)
_signed("a-fact-that-is-a-list", "an audit fact that is a list", "AuditRecorded", "[]")
_signed("a-fact-without-a-place", "an audit fact without a place in a chain", "AuditRecorded", "{}")
_signed(
    "a-fact-with-an-odd-place",
    "an audit fact whose place in the chain is no number",
    "AuditRecorded",
    '{"writer": [], "sequence": {}, "previous": 1}',
)
_signed("a-fact-that-is-no-json", "an audit fact that is no JSON", "AuditRecorded", "{")
_signed(
    "a-long-number",
    "a lease with a number of four thousand digits",
    "InstanceChanged",
    '{"agent": "CodeAgent", "instance": "x", "step": "renewed", "number": ' + "9" * 4300 + "}",
)
_signed(
    "a-time-of-no-calendar",
    "a question at a time that no calendar has",
    "Ask",
    '{"question": "x"}',
    message_type="request",
    to_agent="OrchestratorAgent",
    timestamp=2**62,
)
_signed("an-odd-outcome", "an outcome of an execution whose grant is an object", "ExecutionSettled", '{"grant_id": {}}')
_receipt("a-deep-receipt", "a rejection of brackets without end", DEEP + '"rejected"')
_receipt("a-receipt-that-is-no-json", "a rejection that is no JSON", '"rejected" {')
for _name, _does, _changed in (
    ("a-time-that-is-text", "an entry, without a key, whose time is text", {"timestamp": "x"}),
    ("a-number-too-large", "an entry, without a key, with a number too large to sign", {"schema_version": 2**70}),
    ("a-content-that-is-an-object", "an entry, without a key, whose content is an object", {"content": {"a": 1}}),
    ("fields-that-are-none", "an entry, without a key, with fields that no row has", {"admin": True}),
):
    _put(_name, _does, lambda system, changed=_changed: write_entry(system, **changed))


async def _another_root(place: Place) -> Attempt:
    """Who can write the files makes a root key and a ring of their own."""
    now = [0.0]
    theirs = place.scratch / "theirs"
    create_keys(theirs, {"user-ada": ["user:ada"]}, 0)
    ring = WatchedKeyring(place.system.home.keys, lambda: now[0])
    before = ring.current.keys
    for name in ("root.pub", "keyring.json"):
        shutil.copy(theirs / name, place.system.home.keys / name)
    now[0] += 2 * LOOK_S
    return Attempt(ring.current.keys != before or ring.look().keys != before)


ATTACKS.append(
    Attack(
        f"{CLASS}/another-root",
        CLASS,
        "root.pub and keyring.json replaced under a running process by a pair that fits",
        "the root of the beginning",
        "",
        _another_root,
    )
)
