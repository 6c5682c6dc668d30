"""The message under way: every line that is logged while it is handled says which it is."""

from __future__ import annotations

from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

from schemas.envelope import Message

_UNDER_WAY: ContextVar[tuple[str, Message] | None] = ContextVar("under_way", default=None)


def take_up(agent: str, message: Message) -> None:
    """From here on in this task, and in what it starts. One variable: it is set for every message and seldom read."""
    _UNDER_WAY.set((agent, message))


def say_message(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor for structlog."""
    if (under_way := _UNDER_WAY.get()) is not None:
        agent, message = under_way
        event.setdefault("worker", agent)
        event.setdefault("message", message.message_id)
        event.setdefault("correlation", message.correlation_id)
    return event
