"""Shared memory: JSON values by scope and key, as facts appended to a table of their own and folded as it grows.

The rules, in one place:
- the newest fact of a (scope, key) counts, by (log_version, seq); a fact id counts once;
- a fact without a value, or whose time is over, is no value;
- a scope is open to everybody until a fact with an empty key names the roles that may read and write it; only who may
  manage agents says so, and a fact counts only if its principal might write the scope where it stands in the log;
- whose key signed a fact is checked before anything it says, where keys are used.
"""

from __future__ import annotations

import heapq
import json
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from bus.errors import BusError, ContentTooLarge
from bus.ids import IdSet
from bus.log.table import DeltaLog
from schemas.envelope import MAX_CONTENT, USER, Message, is_user
from schemas.redaction import Place

#: How long a value is kept unless said otherwise.
KEPT = timedelta(hours=24)
#: Fact ids that are remembered at least.
REMEMBERED = 200_000
#: Ends that may be known of facts which others have replaced: at most so many, and as many again as there are facts.
STALE_ENDS = 1_000
EVERYBODY = "*"
#: The key under which a scope's roles stand.
_RULE = ""


class ScopeRefused(BusError):
    """The principal's role may not do this in the scope."""


@dataclass(frozen=True)
class Asker:
    """Who wants something: `writer` as the bus knows it, on behalf of `principal`."""

    writer: str
    principal: str | None


class Rights:
    """Who has which role, and who may manage agents. This one knows nobody: every scope with roles is closed."""

    def role_of(self, principal: str | None) -> str | None:
        return None

    def manages(self, principal: str | None) -> bool:
        return False


@dataclass(frozen=True)
class Fact:
    """A row of agent_shared_memory. `value` is JSON text, None when it says that there is none. Times are microseconds."""

    fact_id: str
    scope: str
    key: str
    value: str | None
    readers: tuple[str, ...]
    writers: tuple[str, ...]
    writer: str
    principal: str | None
    message_id: str | None
    expires_at: int | None
    timestamp: int
    key_id: str | None = None
    signature: str | None = None

    def as_message(self) -> Message:
        """What is signed: as a row of the bus is, so that keys and their checks are the same."""
        said = [self.scope, self.key, self.value, self.readers, self.writers, self.message_id, self.expires_at]
        return Message(
            message_id=self.fact_id,
            correlation_id="shared-memory",
            from_agent=self.writer,
            to_agent="",
            message_type="event",
            kind="MemoryFact",
            content=json.dumps(said, ensure_ascii=False),
            timestamp=self.timestamp,
            principal=self.principal,
            key_id=self.key_id,
            signature=self.signature,
        )


def unsigned(message: Message) -> Message:
    """For tables without signatures."""
    return message


def accept_all(_: Message) -> bool:
    return True


def keep(value: Any, place: Place) -> Any:
    """Where nothing is masked."""
    return value


class SharedMemory:
    """The table `agent_shared_memory`, safe for several threads and processes. It is opened when it is first used."""

    def __init__(
        self,
        log: DeltaLog,
        rights: Rights | None = None,
        sign: Callable[[Message], Message] = unsigned,
        accept: Callable[[Message], bool] = accept_all,
        redact: Callable[[Any, Place], Any] = keep,
    ) -> None:
        self._log = log
        self._rights = rights or Rights()
        self._sign = sign
        self._accept = accept
        self._redact = redact
        self._lock = threading.RLock()
        self._begin_anew()

    # --- reading -----------------------------------------------------------------------------------------------------

    def get(self, scope: str, key: str, asker: Asker) -> Any:
        """The newest value, or None. Raises ScopeRefused or LogMissing."""
        with self._lock:
            self._follow()
            self._check(scope, asker.principal, "read")
            fact = self._facts.get(scope, {}).get(key)
            return json.loads(fact.value) if key != _RULE and fact is not None and self._holds(fact) else None

    def keys(self, scope: str, asker: Asker) -> list[str]:
        """Keys that hold a value now, sorted. Raises ScopeRefused or LogMissing."""
        with self._lock:
            self._follow()
            self._check(scope, asker.principal, "read")
            facts = self._facts.get(scope, {}).values()
            return sorted(fact.key for fact in facts if fact.key != _RULE and self._holds(fact))

    # --- writing -----------------------------------------------------------------------------------------------------

    def put(
        self,
        scope: str,
        key: str,
        value: Any,
        asker: Asker,
        *,
        kept: timedelta = KEPT,
        fact_id: str | None = None,
        message_id: str | None = None,
    ) -> bool:
        """Keep a value. False: this very fact was there already. Raises ScopeRefused, ContentTooLarge or ValueError."""
        _check_name(scope, key)
        try:
            json.dumps(value, allow_nan=False)
            text = json.dumps(self._redact(value, "message"), allow_nan=False, ensure_ascii=False)
            size = len(text.encode())
        except (TypeError, ValueError) as error:  # also half a character
            raise ValueError(f"the value for {scope}/{key} is no JSON: {error}") from error
        if size > MAX_CONTENT:
            raise ContentTooLarge(
                f"the value for {scope}/{key} holds {size:,} bytes, the limit is {MAX_CONTENT:,}: store it elsewhere and "
                "keep a reference to it"
            )
        return self._append(scope, key, text, asker, fact_id=fact_id, message_id=message_id, kept=kept)

    def delete(
        self, scope: str, key: str, asker: Asker, *, fact_id: str | None = None, message_id: str | None = None
    ) -> bool:
        """From here on there is no value. Raises as `put`."""
        _check_name(scope, key)
        return self._append(scope, key, None, asker, fact_id=fact_id, message_id=message_id, kept=KEPT)

    def define(self, scope: str, readers: Sequence[str], writers: Sequence[str], asker: Asker) -> None:
        """Which roles may read and write a scope; `*` is everybody. Who writes may read. Raises ScopeRefused."""
        _check_name(scope, "any")
        self._append(scope, _RULE, "{}", asker, roles=(tuple(readers), tuple(writers)), kept=None)

    def _append(
        self,
        scope: str,
        key: str,
        value: str | None,
        asker: Asker,
        *,
        kept: timedelta | None,
        fact_id: str | None = None,
        message_id: str | None = None,
        roles: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()),
    ) -> bool:
        now = self._now()
        fact = Fact(
            fact_id=fact_id or uuid.uuid4().hex,
            scope=scope,
            key=key,
            value=value,
            readers=roles[0],
            writers=roles[1],
            writer=asker.writer,
            principal=asker.principal,
            message_id=message_id,
            expires_at=None if kept is None else now + kept // timedelta(microseconds=1),
            timestamp=now,
        )
        signed = self._sign(fact.as_message())
        fact = replace(fact, key_id=signed.key_id, signature=signed.signature)
        with self._lock:
            while True:
                # Decided by compare-and-set, like everything: what is below our version has been read.
                self._follow()
                if fact.fact_id in self._ids:
                    return False
                self._check(scope, asker.principal, "define" if key == _RULE else "write")
                version = self._head + 1
                placed = vars(fact) | {"log_version": version, "seq": 0}
                rows = pa.Table.from_pylist([placed], schema=self._log.schema.file_schema)
                if self._log.put(version, rows).won:
                    self._absorb([fact])
                    self._head = version
                    return True

    # --- rights ------------------------------------------------------------------------------------------------------

    def _check(self, scope: str, principal: str | None, what: str) -> None:
        if not self._may(scope, principal, what):
            rule = self._facts.get(scope, {}).get(_RULE)
            allowed = "who may manage agents"
            if what != "define" and rule is not None:
                named = rule.writers if what == "write" else (*rule.readers, *rule.writers)
                allowed = ", ".join(dict.fromkeys(named)) or "nobody"
            raise ScopeRefused(f"{principal or 'nobody'} may not {what} {scope}: it is for {allowed}")

    def _may(self, scope: str, principal: str | None, what: str) -> bool:
        rule = self._facts.get(scope, {}).get(_RULE)
        if what != "define" and rule is None:
            return True
        if what != "define" and rule is not None:
            named = rule.writers if what == "write" else (*rule.readers, *rule.writers)
            if EVERYBODY in named or self._rights.role_of(principal) in named:
                return True
        return self._rights.manages(principal)

    # --- the fold ----------------------------------------------------------------------------------------------------

    def _begin_anew(self) -> None:
        self._head = -1
        self._facts: dict[str, dict[str, Fact]] = {}
        self._ids = IdSet(REMEMBERED)
        self._ends: list[tuple[int, str, str]] = []
        self._most_ends = STALE_ENDS

    def _follow(self) -> None:
        """Read what came since; a whole scan only at first, and when the log was cleaned past our place."""
        if self._head >= 0 and not self._log.exists(self._head) and (self._log.checkpoint_version() or -1) > self._head:
            self._begin_anew()
        if self._head < 0:
            self._log.check()
            found, version = self._log.scan()
            self._absorb(facts_of(found))
            self._head = version
        for entry, rows in self._log.follow(self._head):
            self._absorb(facts_of(rows))
            self._head = entry.version

    def _absorb(self, facts: Iterable[Fact]) -> None:
        for fact in facts:
            is_rule = fact.key == _RULE
            if (
                fact.fact_id in self._ids
                or not self._is_theirs(fact)
                or not self._may(fact.scope, fact.principal, "define" if is_rule else "write")
            ):
                continue
            self._ids.add(fact.fact_id)
            self._facts.setdefault(fact.scope, {})[fact.key] = fact
            if fact.expires_at is not None:
                heapq.heappush(self._ends, (fact.expires_at, fact.scope, fact.key))
            if len(self._ends) > self._most_ends:
                self._note_ends()
        self._forget()

    def _note_ends(self) -> None:
        """Of the facts that are there: a key that is written every second leaves an end behind each time."""
        found = [fact for facts in self._facts.values() for fact in facts.values()]
        self._ends = [(fact.expires_at, fact.scope, fact.key) for fact in found if fact.expires_at is not None]
        heapq.heapify(self._ends)
        self._most_ends = 2 * len(self._ends) + STALE_ENDS

    def _is_theirs(self, fact: Fact) -> bool:
        """Whether it was written by whom it names; a person acts for nobody else."""
        if is_user(fact.writer) and fact.writer != f"{USER}{fact.principal}":
            return False
        try:
            return self._accept(fact.as_message())
        except ValidationError:
            return False

    def _forget(self) -> None:
        """Values whose time is over need no room."""
        now = self._now()
        while self._ends and self._ends[0][0] <= now:
            _, scope, key = heapq.heappop(self._ends)
            fact = self._facts.get(scope, {}).get(key)
            if fact is not None and fact.expires_at is not None and fact.expires_at <= now:
                del self._facts[scope][key]
                if not self._facts[scope]:
                    del self._facts[scope]

    def _holds(self, fact: Fact) -> bool:
        return fact.value is not None and (fact.expires_at is None or fact.expires_at > self._now())

    def _now(self) -> int:
        return round(self._log.now().timestamp() * 1_000_000)


def facts_of(rows: pa.Table) -> list[Fact]:
    """In log order. A row that is no fact, by somebody who does not know the rules, is left out."""
    columns = {name: rows.column(name) for name in _NAMES}
    columns = {n: c.cast(pa.int64()) if pa.types.is_timestamp(c.type) else c for n, c in columns.items()}
    places = list(zip(*(rows.column(name).to_pylist() for name in ("log_version", "seq")), strict=True))
    said = [dict(zip(_NAMES, row, strict=True)) for row in zip(*(c.to_pylist() for c in columns.values()), strict=True)]
    ordered = sorted(zip(places, said, strict=True), key=lambda pair: tuple(-1 if p is None else p for p in pair[0]))
    return [fact for _, row in ordered if (fact := _fact(row)) is not None]


_NAMES = tuple(Fact.__dataclass_fields__)


def _fact(row: Mapping[str, Any]) -> Fact | None:
    if None in (row["fact_id"], row["scope"], row["key"], row["writer"], row["timestamp"]):
        return None
    if row["value"] is not None:
        try:
            json.loads(row["value"])
        except (ValueError, RecursionError):
            return None
    lists = {name: tuple(row[name] or ()) for name in ("readers", "writers")}
    return Fact(**{**row, **lists})


def _check_name(scope: str, key: str) -> None:
    for what, name in (("scope", scope), ("key", key)):
        if not name or len(name) > 500:
            raise ValueError(f"a {what} has 1 to 500 characters, not {len(name)}")
