"""What one call of a client sends: messages one by one, or plain rows as columns, which is many times faster."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

from bus.base import Bus
from bus.compose import Composer, Item, check_size, json_text
from bus.errors import IdTaken
from bus.logs import LateLogger
from bus.past import Past
from bus.watch import Accept, Watch
from schemas.envelope import EVERYONE, MAX_CONTENT, USER, Message

log = LateLogger(__name__)

#: Messages, and characters of content, that one commit of `send_many` carries at most.
COMMIT_ROWS = 5_000
COMMIT_SIZE = 32 << 20
#: Rows from which on it is worth while to make columns of them.
WORTH_COLUMNS = 20
#: Keys of plain rows that can become columns as they are, besides `to`, `kind` and `content`.
_AS_THEY_ARE = frozenset({"message_id", "correlation_id", "causation_id", "priority"})
_NEEDED = frozenset({"to", "kind", "content"})


@dataclass(frozen=True)
class Desk:
    """Where batches are handed in: a client's bus, what it watches for and what it can look up."""

    bus: Bus
    watch: Watch
    past: Past
    accept: Accept
    composer: Composer

    def original(self, message: Message, found: Message) -> Message:
        """What stands in the log under a message's id already. Raises IdTaken when that is another message."""
        if (message.timestamp, message.content) == (found.timestamp, found.content):
            return found  # this very row, or nobody could tell
        fields = ("from_agent", "to_agent", "kind")
        differs = next((name for name in fields if getattr(message, name) != getattr(found, name)), None)
        if differs is None and not self.accept(found):
            differs = "signature"
        if differs is not None:
            raise IdTaken(
                f"the id {message.message_id} names another message since version {found.log_version} (its {differs} "
                "differs); nothing was sent under it: choose an id that names one message only"
            )
        if message.content != found.content:
            log.warning("client.original_differs", message_id=message.message_id, version=found.log_version)
        return found


@dataclass
class Batch:
    """Messages, each written and signed for itself. `own_ids`: some ids come from the producer.

    In this order: `recall` if there are own ids, `begin`, wait for `commits`, `collect` in any case, `settled`.
    """

    desk: Desk
    messages: list[Message]
    own_ids: bool
    commits: list[Future[int]] = field(default_factory=list)
    _found: dict[str, Message] = field(default_factory=dict)
    _tracked: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.messages)

    @property
    def addressees(self) -> list[str]:
        return list(dict.fromkeys(message.to_agent for message in self.messages))

    def recall(self) -> None:
        """Look up which of these messages are in the log already. Reads the table; raises IdTaken."""
        self.desk.watch.hear_all()
        self._found |= self.desk.past.by_id([m.message_id for m in self.messages if m.message_id not in self._found])
        for message in self.messages:
            if (found := self._found.get(message.message_id)) is not None:
                self.desk.original(message, found)

    def begin(self, here: bool = False) -> None:
        """Hand what is not in the log yet to the bus, commit by commit; does not wait. `here`: whoever calls waits anyway."""
        bus = self.desk.bus
        submit = getattr(bus, "submit_here", bus.submit) if here else bus.submit  # a log's bus has it
        unique = {message.message_id: message for message in reversed(self.messages)}  # of two with an id, the first
        fresh = [m for m in self.messages if m.message_id not in self._found and unique[m.message_id] is m]
        self._tracked = [message.message_id for message in fresh]
        self.desk.watch.track(self._tracked)
        for part in parts(fresh, [len(message.content) for message in fresh]):
            self.commits.append(submit(part))

    def collect(self) -> None:
        """Take up what counts of what was committed."""
        rows = self.desk.watch.collect(self._tracked)
        self._found |= {row.message_id: row for row in rows if row is not None}

    def settled(self) -> list[Message]:
        """What counts, in the order it was given. Reads the table when an id was used before."""
        if any(message.message_id not in self._found for message in self.messages):
            self.recall()
        if self.own_ids:  # another client may have been faster with the same id
            for message in self.messages:
                self.desk.original(message, self._found[message.message_id])
        return [self._found[message.message_id] for message in self.messages]


class Bulk:
    """Plain rows of one shape, committed as columns under one signature a commit. The same steps as a Batch."""

    def __init__(self, desk: Desk, rows: Sequence[Mapping[str, Any]]) -> None:
        self.desk = desk
        self.size = len(rows)
        self.own_ids = "message_id" in rows[0]
        self.addressees = list(dict.fromkeys(row["to"] for row in rows))
        self.commits: list[Future[int]] = []
        user = desk.composer.user
        self._common = {
            "from_agent": USER + user,
            "message_type": "request",
            "timestamp": desk.composer.now_micros(),
            "principal": user,
        }
        self._rows = _columns_of(rows)
        self._fresh = self._rows
        self._parts: list[Sequence[dict[str, Any]]] = []
        self._found: dict[str, Message] = {}

    def recall(self) -> None:
        """Look up which of these rows are in the log already. Reads the table; raises IdTaken."""
        self.desk.watch.hear_all()
        self._check(self.desk.past.by_id([row["message_id"] for row in self._rows]))
        unique = {row["message_id"]: row for row in reversed(self._rows)}
        fresh = [row for row in self._rows if row["message_id"] not in self._found]
        self._fresh = [row for row in fresh if unique[row["message_id"]] is row]

    def begin(self, here: bool = False) -> None:
        """Encode and sign here, and hand it to the bus; does not wait for a commit."""
        submit = getattr(self.desk.bus, "submit_rows")  # noqa: B009  # a log's bus has it, see `rows_of`
        for part in parts(self._fresh, [len(row["content"]) for row in self._fresh]):
            self._parts.append(part)
            self.commits.append(submit(part, self._common))

    def collect(self) -> None:
        """The bus does not look at its own bulk rows again: it is told of ids that may come a second time."""
        if self.own_ids:
            self.desk.past.note([row["message_id"] for part in self._parts for row in part])

    def settled(self) -> Sequence[Message]:
        """What counts, in the order it was given, as messages that are made when they are looked at."""
        if self.own_ids:
            # Whatever others wrote under one of these ids since this client began: the first in the log counts.
            seen = self.desk.bus.state.seen
            rivals = [row["message_id"] for part in self._parts for row in part if row["message_id"] in seen]
            self._check(self.desk.past.by_id(rivals))
        written = [(commit.result(), part) for commit, part in zip(self.commits, self._parts, strict=True)]
        return SentRows(self._rows, self._common, written, self._found)

    def _check(self, found: Mapping[str, Message]) -> None:
        if not found:
            return
        for row in self._rows:
            if (original := found.get(row["message_id"])) is not None:
                self._found[row["message_id"]] = self.desk.original(_message(row, self._common, (-1, -1)), original)


class SentRows(Sequence[Message]):
    """The messages of a bulk. A row that was just written comes without its signature, which covers the whole commit."""

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        common: Mapping[str, Any],
        written: Sequence[tuple[int, Sequence[Mapping[str, Any]]]],
        originals: Mapping[str, Message],
    ) -> None:
        self._rows, self._common, self._written, self._originals = rows, common, written, originals

    @cached_property
    def _placed(self) -> Mapping[str, tuple[int, int]]:
        return {row["message_id"]: (version, seq) for version, part in self._written for seq, row in enumerate(part)}

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Message: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Message]: ...

    def __getitem__(self, index: int | slice) -> Message | Sequence[Message]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        row = self._rows[index]
        original = self._originals.get(row["message_id"])
        return original or _message(row, self._common, self._placed[row["message_id"]])


def batch_of(desk: Desk, items: Sequence[Item]) -> Batch | Bulk:
    """What `send_many` was given. Raises NotAMessage or ContentTooLarge before anything is sent."""
    if (rows := rows_of(desk.bus, items)) is not None:
        return Bulk(desk, rows)
    own_ids = any(not isinstance(item, tuple) and item.get("message_id") for item in items)
    return Batch(desk, [desk.composer.item(item) for item in items], own_ids)


def rows_of(bus: Bus, items: Sequence[Item]) -> Sequence[Mapping[str, Any]] | None:
    """The items, if they are rows of one shape that can be columns, on a bus that takes them.

    Not events: a client hears its own, and a bulk is not told to whoever wrote it.
    """
    rows = [item for item in items if not isinstance(item, tuple)]
    if len(rows) < max(len(items), WORTH_COLUMNS) or not hasattr(bus, "submit_rows"):
        return None
    keys = rows[0].keys()
    if not keys >= _NEEDED or not keys - _NEEDED <= _AS_THEY_ARE:
        return None
    alike = all(row.keys() == keys and row["to"] != EVERYONE for row in rows)
    return rows if alike else None


def parts(items: Sequence[Any], sizes: Sequence[int]) -> Iterator[Sequence[Any]]:
    """In commits of a size that a reader can hold."""
    start = size = 0
    if sum(sizes) <= COMMIT_SIZE:  # as nearly always
        yield from (items[place : place + COMMIT_ROWS] for place in range(0, len(items), COMMIT_ROWS))
        return
    for place, length in enumerate(sizes):
        if place > start and (place - start >= COMMIT_ROWS or size + length > COMMIT_SIZE):
            yield items[start:place]
            start, size = place, 0
        size += length
    yield items[start:]


def _columns_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Named as the table's columns, each with an id. A row that begins a conversation gives it its own id."""
    contents = [one if isinstance(one := row["content"], str) else json_text(one) for row in rows]
    # No content takes more bytes than four a character.
    for row, content in zip(rows, contents, strict=True) if max(map(len, contents)) > MAX_CONTENT // 4 else ():
        check_size(row["kind"], content)
    if "message_id" in rows[0]:
        ids = [row["message_id"] for row in rows]
    else:
        fresh = os.urandom(16 * len(rows)).hex()
        ids = [fresh[place : place + 32] for place in range(0, len(fresh), 32)]
    conversations = [row["correlation_id"] for row in rows] if "correlation_id" in rows[0] else ids
    more = [name for name in ("causation_id", "priority") if name in rows[0]]
    made = [
        {"message_id": i, "correlation_id": c, "to_agent": row["to"], "kind": row["kind"], "content": content}
        for i, c, row, content in zip(ids, conversations, rows, contents, strict=True)
    ]
    for name in more:
        for one, row in zip(made, rows, strict=True):
            one[name] = row[name]
    return made


def _message(row: Mapping[str, Any], common: Mapping[str, Any], place: tuple[int, int]) -> Message:
    return Message(**common, **row, log_version=place[0], seq=place[1])
