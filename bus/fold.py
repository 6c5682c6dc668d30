"""Rows folded into state: what is open, what is decided, what a conversation said. Pure; no clock, no files.

The rules, in one place:
- a message id counts once: a second row with it is a replay and ignored;
- a receipt counts if its message is open for that agent; the first in (log_version, seq) wins. For an event, the first
  receipt of each agent counts, whether or not the agent is known to subscribe;
- a row with a handling_id is valid only if that receipt counts, and it stands in the receipt's own commit;
- a claim counts once per agent and grant; a grant its issuer revoked before the claim can no longer be claimed;
- an agent subscribes from the moment one of its instances said so; what was published before is not for it;
- an instance is live from `started` to `stopped` or `ended`; `renewed` and `ended` count only while it is, and `ended`
  only if it names the newest renewal.

Every process that folds the same log has the same state, so a state can be written down and loaded elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from bus.conversations import Conversations
from bus.ids import IdSet
from schemas.envelope import EVERYONE, Message, is_user

#: How many message ids are remembered at least.
DEDUP_LIMIT = 2_000_000
INSTANCE_CHANGED = "InstanceChanged"
EXECUTION_CLAIMED = "ExecutionClaimed"
GRANT_REVOKED = "GrantRevoked"
#: Who issues grants, and so the only one who may take one back.
ISSUER = "GovernanceAgent"
_DECIDING = (EXECUTION_CLAIMED, GRANT_REVOKED, INSTANCE_CHANGED)

OpenKey = tuple[str, str]  # (message_id, agent)


def receipt_key(message_id: str, agent: str) -> str:
    return f"receipt:{message_id}:{agent}"


def claim_key(claim: str) -> str:
    return f"claim:{claim}"


def lease_key(instance: str, number: int) -> str:
    return f"lease:{instance}:{number}"


def decision_key(message: Message) -> str | None:
    """What a row decides, or None: the unit of the log's compare-and-set."""
    if message.message_type == "receipt":
        return receipt_key(message.causation_id or "", message.from_agent)
    if message.message_type == "event":
        if (claim := claim_of(message)) is not None:
            return claim_key(claim)
        if message.kind == INSTANCE_CHANGED:
            said = _said(message)
            if said.get("step") in ("renewed", "ended"):
                return lease_key(str(said.get("instance")), _number(said))
    return None


def is_binding(message: Message) -> bool:
    """Whether the fold obeys this row: such a row must be signed by whom it names."""
    return message.message_type == "receipt" or (message.message_type == "event" and message.kind in _DECIDING)


def claim_of(message: Message) -> str | None:
    """What an event claims, as AGENT/GRANT: the grant for that agent, once. Nobody claims in another's name.

    A revocation takes the claim's place, so that the log decides whether the grant was used before it was revoked.
    """
    if message.message_type != "event":
        return None
    if message.kind == EXECUTION_CLAIMED:
        agent: object = message.from_agent
    elif message.kind == GRANT_REVOKED and message.from_agent == ISSUER:
        agent = _said(message).get("executor")
    else:
        return None
    grant = _said(message).get("grant_id")
    return f"{agent}/{grant}" if isinstance(grant, str) else f"malformed:{message.message_id}"


def _said(message: Message) -> dict[str, Any]:
    try:
        content = json.loads(message.content)
    except (ValueError, RecursionError):  # brackets without end, from whoever has a key
        return {}
    return content if isinstance(content, dict) else {}


def _number(said: Mapping[str, Any]) -> int:
    number = said.get("number", 0)
    return number if isinstance(number, int) else -1


@dataclass
class State:
    """The open set and the decisions, as of `version`. `subscriptions` maps an agent to the event kinds it gets.

    `partial`: begun in the middle of the log, so that a message may be older than anything known here.
    `claims`: what was claimed or revoked, by AGENT/GRANT. `leases`: the newest row of every live instance, by instance.
    """

    subscriptions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    partial: bool = False
    version: int = -1
    open: dict[OpenKey, Message] = field(default_factory=dict)
    claims: dict[str, Message] = field(default_factory=dict)
    leases: dict[str, Message] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.subscriptions = dict(self.subscriptions)
        self.seen = IdSet(DEDUP_LIMIT)
        #: Events that were published, and `receipt_key`s of those that agents settled.
        self.published = IdSet(DEDUP_LIMIT)
        self.conversations = Conversations(DEDUP_LIMIT)
        #: agent -> its part of `open`, in log order: rows are opened in that order.
        self._waiting: dict[str, dict[str, Message]] = {}

    # --- decisions -------------------------------------------------------------------------------------------------

    def decided(self, message: Message) -> str | None:
        """The key this row would decide, if it's taken already; None: the row may be committed."""
        if message.message_type == "receipt":
            return None if self._is_first_receipt(message) else decision_key(message)
        if message.message_type != "event" or message.kind not in _DECIDING:
            return None
        if message.kind != INSTANCE_CHANGED:
            return decision_key(message) if claim_of(message) in self.claims else None
        return None if self._is_next_step(message) else decision_key(message)

    def _is_first_receipt(self, receipt: Message) -> bool:
        message_id, agent = receipt.causation_id or "", receipt.from_agent
        if (message_id, agent) in self.open:
            return True
        if receipt_key(message_id, agent) in self.published:
            return False
        return message_id in self.published or (self.partial and message_id not in self.seen)

    def _is_next_step(self, message: Message) -> bool:
        said = _said(message)
        if said.get("step") not in ("renewed", "ended"):
            return True
        newest = self.leases.get(str(said.get("instance")))
        if newest is None or newest.from_agent != message.from_agent:  # no agent ends or renews the leases of another
            return False
        known = _number(_said(newest))
        return _number(said) == known if said["step"] == "ended" else _number(said) > known

    # --- the fold --------------------------------------------------------------------------------------------------

    def absorb(self, rows: Iterable[Message]) -> list[Message]:
        """Fold the rows of one commit, in order; returns those that are valid."""
        valid: list[Message] = []
        counting: set[str] = set()
        for row in rows:
            if self._absorb(row, counting):
                valid.append(row)
        return valid

    def _absorb(self, row: Message, counting: set[str]) -> bool:
        if row.log_version > self.version:
            self.version = row.log_version
        if row.message_type == "receipt":
            if not self._is_first_receipt(row) or not self.seen.add(row.message_id):
                return False
            self._settle(row)
            counting.add(row.handling_id or row.message_id)
            return True
        if (
            (row.handling_id is not None and row.handling_id not in counting)
            or self.decided(row) is not None
            or not self.seen.add(row.message_id)
        ):
            return False
        if row.message_type == "event":
            self._note(row)
        agents = self.addressees(row)
        self.conversations.add(row, waits=bool(agents))
        for agent in agents:
            self.opened(agent, row)
        return True

    def _settle(self, receipt: Message) -> None:
        message_id, agent = receipt.causation_id or "", receipt.from_agent
        message = self.open.pop((message_id, agent), None)
        if message is not None:
            del self._waiting[agent][message_id]
            self.conversations.settled(message.correlation_id)
            if message.to_agent != EVERYONE:
                return
        # For an event, or a message before our time, nothing but this remembers that it was settled.
        self.published.add(receipt_key(message_id, agent))

    def _note(self, row: Message) -> None:
        """What an event means to the fold."""
        if row.to_agent == EVERYONE:
            self.published.add(row.message_id)
        if (claim := claim_of(row)) is not None:
            self.claims[claim] = row
        elif row.kind == INSTANCE_CHANGED:
            said = _said(row)
            if said.get("agent") != row.from_agent or not isinstance(instance := said.get("instance"), str):
                return
            if instance in self.leases and self.leases[instance].from_agent != row.from_agent:
                return
            if said.get("step") in ("started", "renewed"):
                self.leases[instance] = row
            else:
                self.leases.pop(instance, None)
            if said.get("step") == "started" and isinstance(kinds := said.get("subscribes"), list):
                self.subscribe(row.from_agent, map(str, kinds))

    def subscribe(self, agent: str, kinds: Iterable[str]) -> None:
        """From here on; a newer word replaces the older one."""
        self.subscriptions = {**self.subscriptions, agent: frozenset(kinds)}

    def addressees(self, row: Message) -> list[str]:
        """The agents that owe a receipt for this row. People owe none."""
        to = row.to_agent
        if row.message_type == "receipt" or not to or is_user(to):
            return []
        if to != EVERYONE:
            return [to]
        return [agent for agent, kinds in self.subscriptions.items() if row.kind in kinds]

    def load(self, rows: Iterable[Message]) -> None:
        """Fold a whole history, commit by commit."""
        ordered = sorted(rows, key=lambda row: row.position)
        for _, commit in groupby(ordered, key=lambda row: row.log_version):
            self.absorb(commit)

    # --- reading ---------------------------------------------------------------------------------------------------

    def conversation(self, correlation_id: str) -> list[Message] | None:
        """Valid messages of a conversation in log order (no receipts); None when some may be unknown or forgotten."""
        return None if self.partial else self.conversations.get(correlation_id)

    def open_for(self, agent: str) -> list[Message]:
        """What waits for an agent, in log order."""
        return list(self._waiting.get(agent, {}).values())  # one step, so that the bus's thread may go on folding

    def waiting(self) -> dict[str, int]:
        """Agent -> how many messages wait for it."""
        return {agent: len(rows) for agent, rows in list(self._waiting.items()) if rows}

    def opened(self, agent: str, row: Message) -> None:
        """A message waits for an agent; called in log order, also for what a written state holds as open."""
        self.open[(row.message_id, agent)] = row
        self._waiting.setdefault(agent, {})[row.message_id] = row
        self.conversations.opened(row.correlation_id)


def valid_rows(rows: Iterable[Message]) -> list[Message]:
    """All valid rows of a whole history (or of whole conversations), receipts included, in log order."""
    state = State()
    valid: list[Message] = []
    for _, commit in groupby(sorted(rows, key=lambda row: row.position), key=lambda row: row.log_version):
        valid.extend(state.absorb(commit))
    return valid
