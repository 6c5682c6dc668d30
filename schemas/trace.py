"""W3C trace context: which trace a message belongs to, and which span it came out of."""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
#: What nearly all of them are: of the version everybody writes, with a trace and a span.
_USUAL = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16
_SAMPLED = "01"


@dataclass(frozen=True)
class TraceContext:
    """`traceparent` taken apart. `flags` are two hexadecimal digits; 01 says that the trace is recorded."""

    trace_id: str
    span_id: str
    flags: str = _SAMPLED

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def parse_traceparent(text: str | None) -> TraceContext | None:
    """None when it is missing or not one: whoever gets such a thing begins a trace, as the standard says."""
    match = _FORM.fullmatch(text) if text else None
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceContext(trace_id, span_id, flags)


def new_traceparent() -> str:
    """For the root message of a conversation that belongs to no trace yet."""
    return f"00-{random.getrandbits(128) or 1:032x}-{new_span_id()}-{_SAMPLED}"


def child_traceparent(parent: str | None, conversation: str) -> str:
    """For what comes out of handling a message: the message's trace, a span of its own.

    Of a conversation whose root names no trace, the conversation's id is the trace: all who handle it agree without asking.
    """
    if parent and _USUAL.fullmatch(parent):  # once a message: without taking it apart
        return f"{parent[:36]}{new_span_id()}{parent[52:]}"
    found = parse_traceparent(parent)
    if found is None:
        return f"00-{hashlib.sha256(conversation.encode()).hexdigest()[:32]}-{new_span_id()}-{_SAMPLED}"
    return f"00-{found.trace_id}-{new_span_id()}-{found.flags}"


def new_span_id() -> str:
    return (random.getrandbits(64) or 1).to_bytes(8).hex()
