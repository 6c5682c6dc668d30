"""The recorded handlings a request is about, read once from the log and from the archives that its old days went to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc

from bus.fold import EXECUTION_CLAIMED, GRANT_REVOKED, claim_of, is_binding, valid_rows
from bus.log import rows as codec
from bus.log.archive import KEY, beyond
from bus.log.retention import archives, older
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

    `accept`: whether a row's signature holds; `agents`: whose handlings, None for everybody's. `discarded_to`: the last day of
    which nothing is left, if the request reaches that far. Raises UnreadableArchive when an archive is needed.
    """

    def __init__(
        self,
        source: DeltaLog,
        accept: Callable[[Message], bool],
        request: ReplayRequest,
        now: int,
        agents: frozenset[str] | None,
    ) -> None:
        self._source = source
        self._accept = accept
        self._agents = agents
        self._since, self._until = request.bounds(now)
        self._conversations, self.total = self._find(request.correlation_id)
        wanted = _in(self._conversations) | pc.field("kind").isin([EXECUTION_CLAIMED, GRANT_REVOKED])
        self._rows, self.version = source.scan(filters=wanted)
        self._left = source.schema.arrow.empty_table()
        if self._has_left or not _is_whole(self._rows, self._conversations):
            self._left = beyond(self._rows, older(source, wanted))

    def _find(self, correlation_id: str | None) -> tuple[list[str], int]:
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
        columns = ["correlation_id", *KEY]
        found, _ = self._source.scan(columns, wanted)
        # The table comes first: what leaves it meanwhile is then in both, and never in neither.
        if self._may_have_left(correlation_id):
            found = pa.concat_tables([found, beyond(found, older(self._source, wanted, columns).cast(found.schema))])
        if not found.num_rows and self._agents is not None:
            self._check_agents()
        order = found.sort_by([(name, "ascending") for name in KEY]).column("correlation_id").to_pylist()
        return list(dict.fromkeys(order)), len(order)

    def _check_agents(self) -> None:
        """Nothing was found: because of the span, or because nobody has that name?"""
        agents = self._agents or frozenset()
        receipts = pc.field("message_type") == "receipt"
        found, _ = self._source.scan(["from_agent"], receipts)
        known = set(found.column("from_agent").to_pylist()) | {agent.name for agent in AGENTS}
        if not agents <= known:
            known |= set(older(self._source, receipts, ["from_agent"]).column("from_agent").to_pylist())
        if unknown := sorted(agents - known):
            raise CannotReplay(
                f"no agent called {', '.join(unknown)} has handled anything here; {', '.join(sorted(known))} have"
            )

    # --- what has left the table ------------------------------------------------------------------------------------

    def _may_have_left(self, correlation_id: str | None) -> bool:
        """Whether any of it may be in an archive. A conversation leaves whole, so of a single one the table itself tells."""
        gone = {place: day for place, day in archives(self._source).items() if self._reaches(date.fromisoformat(day))}
        if gone and correlation_id is not None and _is_whole(self._of_table(correlation_id), [correlation_id]):
            gone = {}
        self.discarded_to = gone.pop("", None)
        self._has_left = bool(gone)
        return self._has_left

    def _reaches(self, last: date) -> bool:
        """Whether something of that day may be in the span. A day of grace: rows are filed by the clock of who wrote them."""
        if self._since is None:
            return True
        name, value = self._since
        if name == "timestamp":
            return datetime.fromtimestamp(value / 1_000_000, UTC).date() <= last + timedelta(days=1)
        later = (pc.field("log_version") <= value) & (pc.field("date") > last + timedelta(days=1))
        return not self._source.scan(["log_version"], later)[0].num_rows

    def _of_table(self, correlation_id: str) -> pa.Table:
        return self._source.scan(
            ["correlation_id", "causation_id", "message_id", "message_type"], _in([correlation_id])
        )[0]

    @cached_property
    def claims(self) -> dict[str, Message]:
        """The claim that counts for each grant."""
        decides = pc.field("kind").isin([EXECUTION_CLAIMED, GRANT_REVOKED])
        found = [row for rows in (self._rows, self._left) for row in codec.from_arrow(rows.filter(decides))]
        claims: dict[str, Message] = {}
        for row in valid_rows(row for row in found if self._accept(row)):
            if (claim := claim_of(row)) is not None:
                claims.setdefault(claim, row)
        return claims

    def recordings(self) -> Iterator[Recording]:
        for begin in range(0, len(self._conversations), CONVERSATIONS):
            part = self._conversations[begin : begin + CONVERSATIONS]
            rows, left = (codec.from_arrow(one.filter(_in(part))) for one in (self._rows, self._left))
            archived = {row.position for row in left}
            # As the bus itself folds: a receipt or claim that nobody signed decides nothing.
            valid = valid_rows(row for row in (*rows, *left) if not is_binding(row) or self._accept(row))
            by_conversation = sorted(valid, key=lambda row: (row.correlation_id, row.position))
            folded = {name: list(said) for name, said in groupby(by_conversation, key=lambda row: row.correlation_id)}
            for name in part:
                for one in recordings(folded.get(name, [])):
                    if self._is_wanted(one):
                        yield replace(one, from_archive=one.message.position in archived)

    def _is_wanted(self, recording: Recording) -> bool:
        if self._agents is not None and recording.agent not in self._agents:
            return False
        receipt = recording.receipt
        if self._since is not None and getattr(receipt, self._since[0]) < self._since[1]:
            return False
        return self._until is None or getattr(receipt, self._until[0]) <= self._until[1]


def _is_whole(rows: pa.Table, conversations: Sequence[str]) -> bool:
    """Whether these are all rows of the conversations: their beginnings are there, and every message that was handled."""
    begun = rows.filter(pc.is_null(rows.column("causation_id"))).column("correlation_id").unique()
    receipts = rows.filter(pc.equal(rows.column("message_type"), "receipt"))
    known = pc.is_in(receipts.column("causation_id"), rows.column("message_id").combine_chunks())
    return set(conversations) <= set(begun.to_pylist()) and pc.all(known, min_count=0).as_py()


def _in(conversations: Sequence[str]) -> pc.Expression:
    return pc.field("correlation_id").isin(pa.array(conversations, pa.string()))


def _scalar(bound: Bound) -> pa.Scalar:
    name, value = bound
    return pa.scalar(value, AGENT_MESSAGES.file_schema.field(name).type)
