"""What a producer hands over, as messages: typed payloads, or plain rows for whoever has many."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict

from pydantic import ValidationError

from bus.errors import ContentTooLarge, NotAMessage
from schemas.envelope import EVERYONE, MAX_CONTENT, USER, Message
from schemas.payloads import Payload
from schemas.trace import new_traceparent


class Envelope(TypedDict, total=False):
    """What a message may say besides whom it is for and what it holds. Moments have a time zone, or are UTC microseconds."""

    correlation_id: str | None
    causation_id: str | None
    priority: int
    not_before: datetime | int | None
    expires_at: datetime | int | None
    traceparent: str | None


#: Keys of a plain row. `to` and `payload` are what they are in `send`; `kind` and `content` stand for a payload.
ROW_KEYS = frozenset(
    {
        "to",
        "payload",
        "kind",
        "content",
        "message_id",
        "correlation_id",
        "causation_id",
        "priority",
        "not_before",
        "expires_at",
        "traceparent",
        "schema_version",
    }
)

#: Fields that are made here when nobody gives them.
_MADE_HERE = frozenset({"message_id", "correlation_id", "causation_id", "traceparent", "not_before", "expires_at"})
#: Kinds of messages to an agent that are remembered, at most.
_ALIKE_KEPT = 1_000

#: One message for `send_many`: (agent, payload), or a row with `ROW_KEYS`.
Item = tuple[str, Payload] | Mapping[str, Any]


def system_micros() -> int:
    """UTC microseconds by this machine's clock."""
    return time.time_ns() // 1000


@dataclass(frozen=True)
class Composer:
    """Writes the envelope: one sender, one clock."""

    user: str
    now_micros: Callable[[], int]
    #: First messages to an agent of a kind, by both: what they say besides was checked, and a copy needs no validation.
    _alike: dict[tuple[str, str], Message] = field(default_factory=dict, compare=False, repr=False)

    def message(self, to: str, payload: Payload, **envelope: Any) -> Message:
        kind, content = payload.kind(), payload.model_dump_json()
        if envelope.keys() - _MADE_HERE or any(value is not None for value in envelope.values()):
            return self._message(to, kind, content, **envelope)
        alike = self._alike.get((to, kind))
        if alike is None:
            if len(self._alike) >= _ALIKE_KEPT:
                self._alike.clear()
            made = self._alike[to, kind] = self._message(to, kind, content)
            return made
        check_size(kind, content)
        return alike.with_fields(
            message_id=str(uuid.uuid4()),
            correlation_id=str(uuid.uuid4()),
            traceparent=new_traceparent(),
            content=content,
            timestamp=self.now_micros(),
        )

    def item(self, item: Item) -> Message:
        """Raises NotAMessage for a row that is none, with what is missing or unknown."""
        if isinstance(item, tuple):
            to, payload = item
            return self.message(to, payload)
        unknown = set(item) - ROW_KEYS
        if unknown or "to" not in item:
            wrong = f"unknown keys: {', '.join(sorted(unknown))}" if unknown else "`to` is missing"
            raise NotAMessage(f"a row for send_many has {wrong}; there are {', '.join(sorted(ROW_KEYS))}")
        envelope = {key: value for key, value in item.items() if key not in ("to", "payload", "kind", "content")}
        given = item.get("payload")
        if isinstance(given, Payload):
            return self.message(item["to"], given, **envelope)
        if "kind" not in item or "content" not in item:
            raise NotAMessage("a row for send_many needs a `payload`, or a `kind` and a `content`")
        return self._message(item["to"], item["kind"], json_text(item["content"]), **envelope)

    def _message(
        self,
        to: str,
        kind: str,
        content: str,
        *,
        message_id: str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        traceparent: str | None = None,
        not_before: datetime | int | None = None,
        expires_at: datetime | int | None = None,
        **envelope: Any,
    ) -> Message:
        check_size(kind, content)
        try:
            return Message(
                message_id=message_id or str(uuid.uuid4()),
                correlation_id=correlation_id or str(uuid.uuid4()),
                causation_id=causation_id,
                traceparent=traceparent or (new_traceparent() if causation_id is None else None),
                from_agent=USER + self.user,
                to_agent=to,
                message_type="event" if to == EVERYONE else "request",
                kind=kind,
                content=content,
                timestamp=self.now_micros(),
                not_before=as_micros(not_before),
                expires_at=as_micros(expires_at),
                principal=self.user,
                **envelope,
            )
        except ValidationError as error:
            first = error.errors()[0]
            raise NotAMessage(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error


def check_size(kind: str, content: str) -> None:
    size = len(content) if len(content) > MAX_CONTENT or content.isascii() else len(content.encode())
    if size > MAX_CONTENT:
        raise ContentTooLarge(
            f"{kind} holds {size} bytes, the limit is {MAX_CONTENT}; nothing was sent: store it elsewhere and send a "
            "reference to it"
        )


def json_text(content: Any) -> str:
    """A string is JSON already, and kept byte for byte; anything else becomes JSON."""
    return content if isinstance(content, str) else json.dumps(content, separators=(",", ":"), ensure_ascii=False)


def as_micros(moment: datetime | int | None) -> int | None:
    """UTC microseconds. Raises NotAMessage for a time without a time zone: it would mean another moment elsewhere."""
    if not isinstance(moment, datetime):
        return moment
    if moment.tzinfo is None:
        raise NotAMessage(f"{moment} has no time zone; datetime.now(UTC) has one")
    return round(moment.timestamp() * 1_000_000)
