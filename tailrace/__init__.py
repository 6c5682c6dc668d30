"""The façade: all that other people's code imports. Names are loaded when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bus.client import TailraceClient
    from schemas.payloads import Payload
    from tailrace.embedded import local
    from workers.runtime.base import Context, Outgoing, Received, Worker, audit, event, reply, request

_HOME = {
    "TailraceClient": "bus.client",
    "Payload": "schemas.payloads",
    "local": "tailrace.embedded",
    "Context": "workers.runtime.base",
    "Outgoing": "workers.runtime.base",
    "Received": "workers.runtime.base",
    "Worker": "workers.runtime.base",
    "audit": "workers.runtime.base",
    "event": "workers.runtime.base",
    "reply": "workers.runtime.base",
    "request": "workers.runtime.base",
}

__all__ = [
    "Context",
    "Outgoing",
    "Payload",
    "Received",
    "TailraceClient",
    "Worker",
    "audit",
    "event",
    "local",
    "reply",
    "request",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"tailrace has no {name}")
    return getattr(import_module(_HOME[name]), name)
