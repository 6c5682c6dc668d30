"""The recorded handlings a request is about, read from the log once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc

from bus.fold import EXECUTION_CLAIMED, GRANT_REVOKED, claim_of, is_binding, valid_rows
from bus.log import rows as codec
from bus.log.table import DeltaLog
from jobs.agents import AGENTS
from jobs.replay.request import Bound, CannotReplay, ReplayRequest
from schemas.envelope import Message
from schemas.tables import AGENT_MESSAGES
from workers.runtime.replaying import Recording, recordings

#: Conversations folded at once.
CONVERSATIONS = 500


class History:
    """Conversation by conversation, in the order they ended first. `version`: of the log that was read.

    `accept`: whether a row's signature holds; `agents`: whose handlings, None for everybody's.
    """

    def __init__(
        self,
        source: DeltaLog,
        accept: Callable[[Message], bool],
        request: ReplayRequest,
        now: int,
        agents: frozenset[str] | None,
    ) -> None:
        self._accept = accept
        self._agents = agents
        self._since, self._until = request.bounds(now)
        self._conversations, self.total = self._find(source, request.correlation_id)
        wanted = pc.field("correlation_id").isin(pa.array(self._conversations, pa.string()))
        self._rows, self.version = source.scan(
            filters=wanted | pc.field("kind").isin([EXECUTION_CLAIMED, GRANT_REVOKED])
        )

    def _find(self, source: DeltaLog, correlation_id: str | None) -> tuple[list[str], int]:
        """The conversations with a receipt that is asked for, oldest first, and how many such receipts there are."""
        wanted = pc.field("message_type") == "receipt"
        if correlation_id is not None:
            wanted &= pc.field("correlation_id") == correlation_id
        if self._agents is not None:
            wanted &= pc.field("from_agent").isin(pa.array(sorted(self._agents), pa.string()))
        if self._since is not None:
            wanted &= pc.field(self._since[0]) >= _scalar(self._since)
        if self._until is not None:
            wanted &= pc.field(self._until[0]) <= _scalar(self._until)
        found, _ = source.scan(["correlation_id", "log_version"], wanted)
        if not found.num_rows and self._agents is not None:
            self._check_agents(source)
        order = found.sort_by("log_version").column("correlation_id").to_pylist()
        return list(dict.fromkeys(order)), len(order)

    def _check_agents(self, source: DeltaLog) -> None:
        """Nothing was found: because of the span, or because nobody has that name?"""
        found, _ = source.scan(["from_agent"], pc.field("message_type") == "receipt")
        known = set(found.column("from_agent").to_pylist()) | {agent.name for agent in AGENTS}
        if unknown := sorted((self._agents or frozenset()) - known):
            raise CannotReplay(
                f"no agent called {', '.join(unknown)} has handled anything here; {', '.join(sorted(known))} have"
            )

    @cached_property
    def claims(self) -> dict[str, Message]:
        """The claim that counts for each grant."""
        found = codec.from_arrow(self._rows.filter(pc.field("kind").isin([EXECUTION_CLAIMED, GRANT_REVOKED])))
        claims: dict[str, Message] = {}
        for row in valid_rows(row for row in found if self._accept(row)):
            if (claim := claim_of(row)) is not None:
                claims.setdefault(claim, row)
        return claims

    def recordings(self) -> Iterator[Recording]:
        for begin in range(0, len(self._conversations), CONVERSATIONS):
            part = self._conversations[begin : begin + CONVERSATIONS]
            rows = codec.from_arrow(self._rows.filter(pc.field("correlation_id").isin(pa.array(part, pa.string()))))
            # As the bus itself folds: a receipt or claim that nobody signed decides nothing.
            valid = valid_rows(row for row in rows if not is_binding(row) or self._accept(row))
            by_conversation = sorted(valid, key=lambda row: (row.correlation_id, row.position))
            folded = {name: list(said) for name, said in groupby(by_conversation, key=lambda row: row.correlation_id)}
            for name in part:
                yield from (one for one in recordings(folded.get(name, [])) if self._is_wanted(one))

    def _is_wanted(self, recording: Recording) -> bool:
        if self._agents is not None and recording.agent not in self._agents:
            return False
        receipt = recording.receipt
        if self._since is not None and getattr(receipt, self._since[0]) < self._since[1]:
            return False
        return self._until is None or getattr(receipt, self._until[0]) <= self._until[1]


def _scalar(bound: Bound) -> pa.Scalar:
    name, value = bound
    return pa.scalar(value, AGENT_MESSAGES.file_schema.field(name).type)
