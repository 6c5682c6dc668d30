"""The payloads of Tailrace's own agents: what they take, answer and tell. A payload of your own derives from `Payload`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas import payloads

if TYPE_CHECKING:
    from schemas.payloads import *  # noqa: F403  # type checkers follow a star, and no name can be forgotten

if not TYPE_CHECKING:  # a type checker would take a module that has this to have every name there is

    def __getattr__(name: str) -> Any:
        if name != "Payload" and name not in payloads.KIND_MODULES:
            raise AttributeError(f"there is no payload {name}; there are {', '.join(sorted(payloads.KIND_MODULES))}")
        return getattr(payloads, name)


def __dir__() -> list[str]:
    return sorted({"Payload", *payloads.KIND_MODULES})
