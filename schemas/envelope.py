"""The envelope every row of agent_messages has: a frozen message, and the bytes its signature covers."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.tables import SIGNED_COLUMNS

MessageType = Literal["request", "response", "event", "receipt"]

#: Addressee of an event: whoever subscribes to its kind.
EVERYONE = "*"
#: A person's address is `user:NAME`; nobody else's starts so.
USER = "user:"
#: Kind of a row that is no message. Every agent rejects it, so that it gets a receipt and an audit fact like any other.
MALFORMED = "Malformed"
#: Largest content in bytes; larger payloads go by reference.
MAX_CONTENT = 1 << 20

_length = struct.Struct(">q").pack
_number = struct.Struct(">qq").pack
_NOTHING = (_length(-1), b"")
_new = object.__new__
_signed_fields = itemgetter(*SIGNED_COLUMNS)
#: What a model keeps beside its class, written straight into its slots: `object.__setattr__` would look each of them up by
#: name, which is most of what a copy costs.
_set_values, _set_fields, _set_extra, _set_private = (
    vars(BaseModel)[slot].__set__
    for slot in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)


class Message(BaseModel):
    """A row of agent_messages. Times are UTC microseconds since 1970; `content` is JSON text exactly as it was signed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    message_id: str = Field(min_length=1, max_length=100)
    correlation_id: str = Field(min_length=1, max_length=100)
    causation_id: str | None = None
    from_agent: str = Field(min_length=1, max_length=200)
    to_agent: str = Field(max_length=200)
    message_type: MessageType
    kind: str = Field(min_length=1, max_length=100)
    schema_version: int = 1
    content: str
    priority: int = Field(default=5, ge=1, le=10)
    timestamp: int = Field(ge=-(2**63), lt=2**63)
    not_before: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    expires_at: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    attempt: int = Field(default=1, ge=1, lt=2**31)
    principal: str | None = None
    traceparent: str | None = None
    key_id: str | None = None
    signature: str | None = None
    log_version: int = -1
    seq: int = -1
    handling_id: str | None = None

    def with_fields(self, **fields: Any) -> Message:
        """A copy with other values, which are not validated: `model_copy` at a tenth of its price, for hot paths."""
        return Message.of_sound(self.__dict__ | fields)

    @staticmethod
    def of_sound(fields: dict[str, Any]) -> Message:
        """All fields, known to be what a message asks for: nothing is validated, and the dictionary becomes the message."""
        made = _new(Message)
        _set_values(made, fields)
        _set_fields(made, _ALL_FIELDS)
        _set_extra(made, None)
        _set_private(made, None)
        return made

    @property
    def position(self) -> tuple[int, int]:
        """Order in the log."""
        return (self.log_version, self.seq)

    @property
    def time(self) -> datetime:
        return datetime.fromtimestamp(self.timestamp / 1e6, UTC)

    def signed_bytes(self, table_id: str, environment: str, key_id: str) -> bytes:
        """Length-prefixed fields in schema order: never re-serialised JSON, never what the writer adds.

        Table, environment and key are part of it, so that a row cannot be replayed elsewhere or under another key.
        """
        # Every row is signed once and checked by many. What hardly differs between rows is looked up, all of it at once.
        (
            message_id, correlation_id, causation_id, from_agent, to_agent, message_type, kind, schema_version,
            content, priority, timestamp, not_before, expires_at, attempt, principal, traceparent,
        ) = _signed_fields(self.__dict__)  # fmt: skip
        place, parties, urgency, whose = _alike(
            table_id, environment, key_id, from_agent, to_agent, message_type, kind, schema_version, priority,
            not_before, expires_at, attempt, principal,
        )  # fmt: skip
        its_id, conversation, said = message_id.encode(), correlation_id.encode(), content.encode()
        cause_length, cause = trace_length, trace = _NOTHING
        if causation_id is not None:
            cause = causation_id.encode()
            cause_length = _LENGTHS[len(cause)]
        if traceparent is not None:
            trace = traceparent.encode()
            trace_length = _LENGTHS[len(trace)]
        return b"".join(
            (
                place,
                _LENGTHS[len(its_id)],
                its_id,
                _LENGTHS[len(conversation)],
                conversation,
                cause_length,
                cause,
                parties,
                _LENGTHS[len(said)],
                said,
                urgency,
                _length(timestamp),
                whose,
                trace_length,
                trace,
            )
        )


_ALL_FIELDS = set(Message.model_fields)


class _Lengths(dict[int, bytes]):
    """What stands before a text of so many bytes; those of short ones are made once."""

    def __missing__(self, length: int) -> bytes:
        return _length(length)


_LENGTHS = _Lengths({length: _length(length) for length in range(1024)})


def _sized(data: bytes) -> bytes:
    return _LENGTHS[len(data)] + data


def field_bytes(value: str | int | None) -> bytes:
    """A field as signatures cover it: its length, or -1 for null, then what it says."""
    if value is None:
        return _NOTHING[0]
    return _number(8, value) if isinstance(value, int) else _sized(value.encode())


def _fields(*values: str | int | None) -> bytes:
    return b"".join(map(field_bytes, values))


@lru_cache(maxsize=10_000)
def _alike(
    table_id: str, environment: str, key_id: str, from_agent: str, to_agent: str, message_type: str, kind: str,
    schema_version: int, priority: int, not_before: int | None, expires_at: int | None, attempt: int, principal: str | None,
) -> tuple[bytes, bytes, bytes, bytes]:  # fmt: skip
    """Where a row's signature holds, and its fields that say the same in many rows, as far as they stand beside each other;
    the third ends with the length of the time that follows."""
    return (
        place_bytes(table_id, environment, key_id),
        _fields(from_agent, to_agent, message_type, kind, schema_version),
        _fields(priority) + _length(8),
        _fields(not_before, expires_at, attempt, principal),
    )


@lru_cache(maxsize=1000)
def place_bytes(table_id: str, environment: str, key_id: str) -> bytes:
    """Where a signature holds, as its first bytes."""
    return b"".join(_sized(one.encode()) for one in (table_id, environment, key_id))


def is_user(address: str) -> bool:
    return address.startswith(USER)
