"""The façade: all that other people's code imports. Names are loaded when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bus.aio import AsyncSubscription, AsyncTailraceClient
    from bus.client import Subscription, TailraceClient, read
    from schemas.envelope import Message
    from schemas.payloads import Payload
    from tailrace import errors as errors
    from tailrace import payloads as payloads
    from tailrace.embedded import local
    from workers.runtime.base import Context, Outgoing, Permanent, Received, Worker, audit, event, reply, request

#: Of the client, which is all that `tailrace-client` brings.
_CLIENT = {
    "AsyncSubscription": "bus.aio",
    "AsyncTailraceClient": "bus.aio",
    "Message": "schemas.envelope",
    "Payload": "schemas.payloads",
    "Subscription": "bus.client",
    "TailraceClient": "bus.client",
    "read": "bus.client",
}
#: Of the server: what agents are made of.
_SERVER = {
    "Context": "workers.runtime.base",
    "Outgoing": "workers.runtime.base",
    "Permanent": "workers.runtime.base",
    "Received": "workers.runtime.base",
    "Worker": "workers.runtime.base",
    "audit": "workers.runtime.base",
    "event": "workers.runtime.base",
    "local": "tailrace.embedded",
    "reply": "workers.runtime.base",
    "request": "workers.runtime.base",
}
_MODULES = {"errors", "payloads"}

__all__ = [
    "AsyncSubscription",
    "AsyncTailraceClient",
    "Context",
    "Message",
    "Outgoing",
    "Payload",
    "Permanent",
    "Received",
    "Subscription",
    "TailraceClient",
    "Worker",
    "audit",
    "event",
    "local",
    "read",
    "reply",
    "request",
]

if not TYPE_CHECKING:  # a type checker would take a module that has this to have every name there is

    def __getattr__(name: str) -> Any:
        if name in _CLIENT:
            return getattr(import_module(_CLIENT[name]), name)
        if name in _MODULES:
            return import_module(f"tailrace.{name}")
        if name not in _SERVER:
            raise AttributeError(f"tailrace has no {name}")
        try:
            return getattr(import_module(_SERVER[name]), name)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] != "workers":
                raise
            raise ImportError(
                f"tailrace.{name} is part of the server, and only the client is installed: pip install 'tailrace-client[server]'"
            ) from error


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
