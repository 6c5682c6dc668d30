"""Messages that were given up: found, chosen by SQL, and delivered again by whoever may."""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bus.audit import AuditChain
from bus.base import Bus
from bus.fold import is_binding, valid_rows
from bus.keys import Signer
from bus.log import rows as codec
from bus.log.bus import LogBus
from bus.log.seal import SigningSeal
from schemas.envelope import EVERYONE, USER, Message
from schemas.payloads import MessageRedriven
from schemas.tables import AGENT_MESSAGES
from workers.runtime.clock import micros
from workers.runtime.redrive import PERMISSION, NotRedriven, original_of, redriven, redriven_id

if TYPE_CHECKING:
    from jobs.bootstrap import System

#: Columns of `dead`, the table that `--where` is about, and their types in Arrow.
COLUMNS = {
    "message_id": "string",
    "correlation_id": "string",
    "causation_id": "string",
    "kind": "string",
    "message_type": "string",
    "from_agent": "string",
    "agent": "string",
    "outcome": "string",
    "reason": "string",
    "attempts": "int64",
    "attempt": "int64",
    "priority": "int64",
    "principal": "string",
    "sent_at": "timestamp",
    "died_at": "timestamp",
    "content": "string",
    "redriven_as": "string",
}


class BadPredicate(ValueError):
    """What follows `--where` is no predicate over these columns."""


@dataclass(frozen=True)
class Dead:
    """A message that `agent` gave up. `outcome` (dead, rejected, expired) and `reason` are the receipt's.

    `principal`: who began the conversation. `redriven_as`: the id under which it was delivered again, and how that ended
    (`waiting` until then). `redriven_from`: what it was itself delivered again for.
    """

    message: Message
    agent: str
    outcome: str
    reason: str
    attempts: int
    at: int
    principal: str | None
    redriven_as: str | None = None
    redriven_outcome: str | None = None
    redriven_from: str | None = None

    def document(self) -> dict[str, Any]:
        return {
            "message_id": self.message.message_id,
            "correlation_id": self.message.correlation_id,
            "kind": self.message.kind,
            "from": self.message.from_agent,
            "agent": self.agent,
            "outcome": self.outcome,
            "reason": self.reason,
            "attempts": self.attempts,
            "attempt": self.message.attempt,
            "principal": self.principal,
            "at": self.at,
            "redriven_as": self.redriven_as,
            "redriven_outcome": self.redriven_outcome,
            "redriven_from": self.redriven_from,
        }

    def row(self) -> dict[str, Any]:
        """As `--where` sees it."""
        message = self.message
        said = self.document() | {name: getattr(message, name, None) for name in COLUMNS if hasattr(message, name)}
        return {name: said.get(name) for name in COLUMNS} | {
            "principal": self.principal,
            "sent_at": message.timestamp,
            "died_at": self.at,
        }


@dataclass(frozen=True)
class Redriven:
    """What became of one: `message_id` it is delivered under now, or the rule and reason why it is not."""

    dead: Dead
    message_id: str | None = None
    rule: str = ""
    reason: str = ""

    def document(self) -> dict[str, Any]:
        return {
            "message_id": self.dead.message.message_id,
            "agent": self.dead.agent,
            "redriven_as": self.message_id,
            "refusal": {"rule": self.rule, "reason": self.reason} if self.rule else None,
        }


# --- finding ---------------------------------------------------------------------------------------------------------


def dead_messages(system: System) -> list[Dead]:
    """Every message that was given up, oldest first. Reads the receipts, and of conversations only those with one."""
    from pyarrow import compute as pc

    table = system.log(AGENT_MESSAGES.name)
    # What the runner writes; a receipt that says it differently is looked at below.
    handled = pc.match_substring(pc.field("content"), '"outcome":"handled"')
    receipts, _ = table.scan(["correlation_id"], filters=(pc.field("message_type") == "receipt") & ~handled)
    conversations = sorted(set(receipts.column("correlation_id").to_pylist()))
    if not conversations:
        return []
    found, _ = table.scan(filters=pc.field("correlation_id").isin(conversations))
    accept = system.accept(table.check())
    return dead_among(valid_rows(row for row in codec.from_arrow(found) if not is_binding(row) or accept(row)))


def dead_among(rows: Iterable[Message]) -> list[Dead]:
    """Of the valid rows of whole conversations, in log order."""
    by_id: dict[str, Message] = {}
    principals: dict[str, str | None] = {}
    outcomes: dict[tuple[str, str], dict[str, Any]] = {}
    found: list[Dead] = []
    for row in rows:
        if row.message_type != "receipt":
            by_id[row.message_id] = row
            principals.setdefault(row.correlation_id, row.principal)
            continue
        said = _content(row)
        message = by_id.get(row.causation_id or "")
        if message is None:
            continue
        outcomes[message.message_id, row.from_agent] = said
        if said.get("outcome") in ("dead", "rejected", "expired"):
            principal = principals[message.correlation_id]
            reason, attempts = str(said.get("reason", "")), int(said.get("attempts", 1))
            found.append(Dead(message, row.from_agent, said["outcome"], reason, attempts, row.timestamp, principal))
    return [_with_lineage(one, by_id, outcomes) for one in found]


def _with_lineage(dead: Dead, by_id: dict[str, Message], outcomes: dict[tuple[str, str], dict[str, Any]]) -> Dead:
    again = redriven_id(dead.message, dead.agent)
    if again in by_id:
        outcome = outcomes.get((again, dead.agent), {}).get("outcome", "waiting")
        dead = replace(dead, redriven_as=again, redriven_outcome=str(outcome))
    return replace(dead, redriven_from=dead.message.causation_id) if dead.message.attempt > 1 else dead


def matching(dead: Sequence[Dead], where: str) -> list[Dead]:
    """Those that a SQL predicate over `COLUMNS` holds for, evaluated by DataFusion. Raises BadPredicate."""
    import pyarrow as pa
    from deltalake import DeltaTable, QueryBuilder, write_deltalake

    if not dead:
        return []
    types = {"timestamp": pa.timestamp("us", tz="UTC"), "string": pa.string(), "int64": pa.int64()}
    schema = pa.schema([("place", pa.int64()), *((name, types[kind]) for name, kind in COLUMNS.items())])
    rows = pa.Table.from_pylist([{"place": place, **one.row()} for place, one in enumerate(dead)], schema=schema)
    with tempfile.TemporaryDirectory(prefix="tailrace-dead-") as scratch:
        write_deltalake(scratch, rows)
        query = QueryBuilder().register("dead", DeltaTable(scratch))
        try:
            # On lines of its own, so that a comment at its end ends there too.
            found = query.execute(f"SELECT place FROM dead WHERE (\n{where}\n)").read_all()
        except Exception as error:  # deltalake has no narrower one
            raise BadPredicate(f"no predicate: {str(error).splitlines()[0]}") from error
    places = sorted(set(pa.table(found).column("place").to_pylist()))
    return [dead[place] for place in places]


# --- delivering again ------------------------------------------------------------------------------------------------


def check(system: System, user: str, chosen: Sequence[Dead]) -> list[Redriven]:
    """What redriving would do, without doing it: the very checks that the agent makes when it gets the message."""
    from pyarrow import compute as pc

    if not chosen:
        return []
    table = system.log(AGENT_MESSAGES.name)
    accept = system.accept(table.check())
    wanted = sorted({one.message.correlation_id for one in chosen})
    found, _ = table.scan(filters=pc.field("correlation_id").isin(wanted))
    conversations: dict[str, list[Message]] = {}
    for row in valid_rows(row for row in codec.from_arrow(found) if accept(row)):
        if row.message_type != "receipt":
            conversations.setdefault(row.correlation_id, []).append(row)
    return [_checked(system, user, one, conversations.get(one.message.correlation_id, [])) for one in chosen]


def _checked(system: System, user: str, dead: Dead, conversation: Sequence[Message]) -> Redriven:
    if dead.redriven_as is not None:
        return Redriven(dead, rule="redrive.again", reason=f"it was redriven already, as {dead.redriven_as}")
    again = redriven(dead.message, dead.agent, user, micros(system.clock.now()))
    try:
        original_of(again, dead.agent, conversation, system.may_redrive)
    except NotRedriven as error:
        return Redriven(dead, rule=error.rule, reason=error.reason)
    return Redriven(dead, again.message_id)


def redrive(system: System, user: str, checked: Sequence[Redriven]) -> None:
    """Deliver again what passed the check: each message and what is said of it are one commit. Raises MissingKey."""
    now = micros(system.clock.now())
    bus = _bus_of(system, user)
    try:
        commits = [
            bus.submit([redriven(one.dead.message, one.dead.agent, user, now), _said(one, user, now)])
            for one in checked
            if one.message_id is not None
        ]
        for commit in commits:
            commit.result()
    finally:
        bus.close()


def _bus_of(system: System, user: str) -> Bus:
    """One that signs for this user, and knows nothing of the past."""
    if system.unity_schema is not None:
        return system.unity.bus_of_user(user)
    table = system.log(AGENT_MESSAGES.name)
    table_id = table.check()
    signer = Signer.load(system.home.keys, [USER + user], table_id, system.settings.env)
    seal = SigningSeal(signer, AuditChain(f"redrive-{uuid.uuid4().hex[:8]}"))
    return LogBus(table, seal=seal, follow_only=True, accept=system.accept(table_id))


def _said(one: Redriven, user: str, now: int) -> Message:
    dead = one.dead
    said = MessageRedriven(
        message_id=dead.message.message_id,
        redriven_as=one.message_id or "",
        agent=dead.agent,
        attempt=dead.message.attempt + 1,
        principal=dead.principal,
        rule="redrive.principal" if user == dead.principal else f"rbac.{PERMISSION}",
        reason=f"{dead.agent} had given it up: {dead.reason}"[:4000],
    )
    return Message(
        message_id=f"{one.message_id}-fact",
        correlation_id=dead.message.correlation_id,
        causation_id=dead.message.message_id,
        from_agent=USER + user,
        to_agent=EVERYONE,
        message_type="event",
        kind=MessageRedriven.kind(),
        content=said.model_dump_json(),
        timestamp=now,
        principal=user,
    )


def _content(row: Message) -> dict[str, Any]:
    try:
        said = json.loads(row.content)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
