"""Rows folded into state: what is open, what is decided, what a conversation said. Pure; no clock, no files.

The rules, in one place:
- a message id counts once: a second row with it is a replay and ignored;
- a receipt counts if its message is open for that agent; the first in (log_version, seq) wins. Who subscribes to an
  event is known for this state's own agents only: of anybody else, the first receipt for an event counts;
- a row with a handling_id is valid only if that receipt counts, and it stands in the receipt's own commit;
- a claim counts once per grant.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from schemas.envelope import EVERYONE, Message, is_user

#: How many message ids are remembered.
DEDUP_LIMIT = 1_000_000
#: Conversations kept in memory; an older one is read from the table again.
CONVERSATIONS = 20_000

OpenKey = tuple[str, str]  # (message_id, agent)


def receipt_key(message_id: str, agent: str) -> str:
    return f"receipt:{message_id}:{agent}"


def claim_key(grant_id: str) -> str:
    return f"claim:{grant_id}"


def decision_key(message: Message) -> str | None:
    """What a row decides, or None: the unit of the log's compare-and-set."""
    if message.message_type == "receipt":
        return receipt_key(message.causation_id or "", message.from_agent)
    if message.kind == "ExecutionClaimed" and message.message_type == "event":
        return claim_key(grant_of(message))
    return None


def grant_of(message: Message) -> str:
    try:
        grant = json.loads(message.content).get("grant_id")
    except (ValueError, AttributeError):
        grant = None
    return grant if isinstance(grant, str) else f"malformed:{message.message_id}"


@dataclass
class State:
    """The open set and the decisions, as of `version`. `subscriptions` maps an agent to the event kinds it gets.

    `partial`: begun in the middle of the log, so that a message may be older than anything known here.
    """

    subscriptions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    partial: bool = False
    version: int = -1
    open: dict[OpenKey, Message] = field(default_factory=dict)
    claims: dict[str, Message] = field(default_factory=dict)

    def __post_init__(self) -> None:
        #: message id -> its kind if it was for whoever subscribes, else None
        self._seen: OrderedDict[str, str | None] = OrderedDict()
        self._receipted: OrderedDict[OpenKey, None] = OrderedDict()
        self._conversations: OrderedDict[str, list[Message]] = OrderedDict()
        self._evicted = False

    # --- decisions -------------------------------------------------------------------------------------------------

    def decided(self, message: Message) -> str | None:
        """The key this row would decide, if it's taken already; None: the row may be committed."""
        if message.message_type == "receipt":
            key = (message.causation_id or "", message.from_agent)
            if key not in self.open and not self._first_of_a_stranger(key):
                return receipt_key(*key)
        elif (key := decision_key(message)) is not None and grant_of(message) in self.claims:
            return key
        return None

    def _first_of_a_stranger(self, key: OpenKey) -> bool:
        """Whether this is the first receipt for an event, or for a row before our time, by an agent that is not ours."""
        message_id, agent = key
        if key in self._receipted:
            return False
        if message_id not in self._seen:
            return self.partial
        kind = self._seen[message_id]
        return kind is not None and kind not in self.subscriptions.get(agent, ())

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
        self.version = max(self.version, row.log_version)
        if row.message_id in self._seen:
            return False
        if self.decided(row) is not None:
            return False
        if row.message_type == "receipt":
            key = (row.causation_id or "", row.from_agent)
            if self.open.pop(key, None) is None:
                _bounded(self._receipted, key, None)
            counting.add(row.handling_id or row.message_id)
        elif row.handling_id is not None and row.handling_id not in counting:
            return False
        if row.kind == "ExecutionClaimed" and row.message_type == "event":
            self.claims[grant_of(row)] = row
        self._remember(row)
        for agent in self.addressees(row):
            self.open[(row.message_id, agent)] = row
        return True

    def addressees(self, row: Message) -> list[str]:
        """The agents that owe a receipt for this row. People owe none."""
        if row.message_type == "receipt" or is_user(row.to_agent):
            return []
        if row.to_agent != EVERYONE:
            return [row.to_agent] if row.to_agent else []
        return [agent for agent, kinds in self.subscriptions.items() if row.kind in kinds]

    def _remember(self, row: Message) -> None:
        _bounded(self._seen, row.message_id, row.kind if row.to_agent == EVERYONE else None)
        if row.message_type == "receipt":
            return
        self._conversations.setdefault(row.correlation_id, []).append(row)
        self._conversations.move_to_end(row.correlation_id)
        while len(self._conversations) > CONVERSATIONS:
            self._conversations.popitem(last=False)
            self._evicted = True

    def load(self, rows: Iterable[Message]) -> None:
        """Fold a whole history, commit by commit."""
        ordered = sorted(rows, key=lambda row: row.position)
        for _, commit in groupby(ordered, key=lambda row: row.log_version):
            self.absorb(commit)

    # --- reading ---------------------------------------------------------------------------------------------------

    def conversation(self, correlation_id: str) -> list[Message] | None:
        """Valid messages of a conversation in log order (no receipts); None when some may be unknown or forgotten."""
        if self.partial:
            return None
        found = self._conversations.get(correlation_id)
        if found is None:
            return None if self._evicted else []
        if self._evicted and found[0].causation_id is not None:
            return None  # its beginning was forgotten
        return list(found)

    def open_for(self, agent: str) -> list[Message]:
        """What waits for an agent, in log order."""
        waiting = list(self.open.items())  # one step, so that the bus's thread may go on folding
        return sorted((m for (_, name), m in waiting if name == agent), key=lambda m: m.position)


def valid_rows(rows: Iterable[Message]) -> list[Message]:
    """All valid rows of a whole history (or of whole conversations), receipts included, in log order."""
    state = State()
    valid: list[Message] = []
    for _, commit in groupby(sorted(rows, key=lambda row: row.position), key=lambda row: row.log_version):
        valid.extend(state.absorb(commit))
    return valid


def _bounded(remembered: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    remembered[key] = value
    while len(remembered) > DEDUP_LIMIT:
        remembered.popitem(last=False)
