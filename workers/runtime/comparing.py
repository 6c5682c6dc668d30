"""Comparing: what came out then and what comes out now, field by field, without what cannot be the same twice."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from typing import Any, Literal

from schemas.envelope import EVERYONE, Message
from workers.runtime.replaying import Recording, Replayed

Verdict = Literal["same", "different", "failed", "skipped", "repaired", "still_failing"]

#: What a field holds where the other side has none.
ABSENT = "(absent)"
#: The bus fills these in as it commits an audit fact.
_CHAIN = frozenset({"writer", "sequence", "previous"})
#: Microseconds two times may be apart and still be the same: a handling reads the clock more than once.
_TIME_SLACK = 1_000_000
_MICROS = range(10**15, 5 * 10**15)
_ID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32}")
_ENVELOPE = ("to_agent", "message_type", "priority", "not_before", "expires_at", "causation_id")


@dataclass(frozen=True)
class Difference:
    """One field. `output` names the row it stands in, `path` the field (`code.text`); `then` and `now` are JSON values."""

    output: str
    path: str
    then: Any
    now: Any


@dataclass(frozen=True)
class Comparison:
    """`reason` says in a sentence why it is not simply the same; empty for same and different."""

    verdict: Verdict
    reason: str
    differences: tuple[Difference, ...]


def compare(recording: Recording, replayed: Replayed, ignore: Sequence[str] = ()) -> Comparison:
    """`ignore`: patterns of `Kind.path` or of a field's own name, such as `*.digest` or `explanation`."""
    then, now = recording.said, replayed.receipt
    if replayed.skipped is not None:
        return Comparison("skipped", replayed.skipped, ())
    reason = now.reason + (f" ({replayed.where})" if replayed.where else "")
    if now.outcome != "handled":
        found = () if then.outcome == now.outcome else (Difference("receipt", "outcome", then.outcome, now.outcome),)
        if then.outcome != "handled":
            return Comparison("still_failing", reason, found)
        return Comparison("failed", reason, found)
    if then.outcome != "handled":
        return Comparison("repaired", f"it was {then.outcome}: {then.reason}", ())
    if _said(recording.outputs) == _said(replayed.outputs):
        return Comparison("same", "", ())
    found = tuple(
        one for one in _Comparing(recording, replayed).differences() if not any(_is_named(one, p) for p in ignore)
    )
    return Comparison("different" if found else "same", "", found)


def _said(rows: Sequence[Message]) -> list[tuple[Any, ...]]:
    return [(row.kind, row.content, *(getattr(row, name) for name in _ENVELOPE)) for row in rows]


def _is_named(difference: Difference, pattern: str) -> bool:
    kind = difference.output.split(" ", 1)[0]
    path = re.sub(r"\[\d+\]", "", difference.path)
    return any(fnmatchcase(name, pattern) for name in (f"{kind}.{path}", path, path.rsplit(".", 1)[-1]))


def output_name(row: Message) -> str:
    """What a person calls an output: its kind, and whom it is for when that is somebody; a fact by what it records."""
    if row.kind == "AuditRecorded":
        content = _content(row)
        return f"AuditRecorded {content.get('action', '')}".strip() if isinstance(content, dict) else row.kind
    return row.kind if row.to_agent == EVERYONE else f"{row.kind} to {row.to_agent}"


class _Comparing:
    """The outputs of one message, then and now."""

    def __init__(self, recording: Recording, replayed: Replayed) -> None:
        self._then, self._now = recording.outputs, replayed.outputs
        self._instance = replayed.instance
        self._recorded_instance = re.compile(re.escape(recording.agent) + r"-[0-9a-f]{8,32}")
        #: Ids that stand in the conversation mean something; only new ones may differ, each always in the same way.
        self._meant = {row.message_id for row in recording.known} | {recording.message.correlation_id}
        self._ids: dict[str, str] = {}
        self._back: dict[str, str] = {}

    def differences(self) -> Iterator[Difference]:
        then, now = [_signature(row) for row in self._then], [_signature(row) for row in self._now]
        for tag, a0, a1, b0, b1 in SequenceMatcher(None, then, now, autojunk=False).get_opcodes():
            if tag == "equal":
                for before, after in zip(self._then[a0:a1], self._now[b0:b1], strict=True):
                    yield from self._rows(before, after)
            else:
                yield from self._changed(list(self._then[a0:a1]), list(self._now[b0:b1]))

    def _changed(self, then: list[Message], now: list[Message]) -> Iterator[Difference]:
        """Rows that do not line up. Of the same type, one has become the other; the rest came or went."""
        for before in then:
            after = next((row for row in now if row.message_type == before.message_type), None)
            if after is None:
                yield Difference(output_name(before), "", _content(before), ABSENT)
                continue
            now.remove(after)
            if before.kind == after.kind:
                yield from self._rows(before, after)
                continue
            yield Difference(output_name(before), "kind", before.kind, after.kind)
            if before.to_agent != after.to_agent:
                yield Difference(output_name(before), "to_agent", before.to_agent, after.to_agent)
            yield Difference(output_name(before), "content", _content(before), _content(after))
        for after in now:
            yield Difference(output_name(after), "", ABSENT, _content(after))

    def _rows(self, before: Message, after: Message) -> Iterator[Difference]:
        name = output_name(before)
        for field in _ENVELOPE:
            if not self._alike(field, getattr(before, field), getattr(after, field)):
                yield Difference(name, f"envelope.{field}", getattr(before, field), getattr(after, field))
        then, now = _content(before), _content(after)
        if before.kind == "AuditRecorded" and isinstance(then, dict) and isinstance(now, dict):
            then = {key: value for key, value in then.items() if key not in _CHAIN}
            now = {key: value for key, value in now.items() if key not in _CHAIN}
        for path, one, other in self._values("", then, now):
            yield Difference(name, path, one, other)

    def _values(self, path: str, then: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
        if isinstance(then, dict) and isinstance(now, dict):
            for key in [*then, *(key for key in now if key not in then)]:
                below = f"{path}.{key}" if path else str(key)
                yield from self._values(below, then.get(key, ABSENT), now.get(key, ABSENT))
        elif isinstance(then, list) and isinstance(now, list):
            for place in range(max(len(then), len(now))):
                one = then[place] if place < len(then) else ABSENT
                other = now[place] if place < len(now) else ABSENT
                yield from self._values(f"{path}[{place}]", one, other)
        elif not self._alike(path.rsplit(".", 1)[-1], then, now):
            yield path, then, now

    def _alike(self, name: str, then: Any, now: Any) -> bool:
        """Equal, or a measured time, a clock's reading, a random id, an instance's name or process: never the same twice."""
        if then == now and type(then) is type(now):
            return True
        if isinstance(then, bool) or isinstance(now, bool):
            return False
        if isinstance(then, int | float) and isinstance(now, int | float):
            if name.endswith("_ms"):
                return True
            if isinstance(then, int) and isinstance(now, int):
                return then in _MICROS and now in _MICROS and abs(then - now) <= _TIME_SLACK
            return math.isclose(then, now, rel_tol=1e-9)
        if isinstance(then, str) and isinstance(now, str):
            return name == "process" or self._texts_alike(then, now)
        return False

    def _texts_alike(self, then: str, now: str) -> bool:
        if now == self._instance:
            return self._recorded_instance.fullmatch(then) is not None
        if _ID.fullmatch(then) and _ID.fullmatch(now):
            if then in self._meant or now in self._meant:
                return False
            return self._ids.setdefault(then, now) == now and self._back.setdefault(now, then) == then
        moments = _moment(then), _moment(now)
        return None not in moments and abs(moments[0] - moments[1]) <= _TIME_SLACK / 1e6


def _signature(row: Message) -> tuple[str, str, str, str]:
    action = ""
    if row.kind == "AuditRecorded" and isinstance(content := _content(row), dict):
        action = str(content.get("action", ""))
    return row.message_type, row.kind, row.to_agent, action


def _content(row: Message) -> Any:
    try:
        return json.loads(row.content)
    except (ValueError, RecursionError):
        return row.content


def _moment(text: str) -> float | None:
    """Seconds of an ISO time; None for other texts, and for a date without a time."""
    if len(text) < 16 or not text[:4].isdigit():
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
