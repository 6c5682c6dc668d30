"""What `tailrace doctor` looks at: one function a check, one module a subject; nothing here may need what is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from bus.home import Home
    from jobs.bootstrap import System

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """`found`: what is there; `remedy`: what to do, empty when all is well."""

    name: str
    level: Level
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Place:
    """What is looked at. `system` is None when the settings are wrong, and then the home is where it would be."""

    home: Home
    system: System | None = None


Check = Callable[[Place], Finding]


def ok(name: str, found: str) -> Finding:
    return Finding(name, "ok", found)


def warn(name: str, found: str, remedy: str) -> Finding:
    return Finding(name, "warn", found, remedy)


def fail(name: str, found: str, remedy: str) -> Finding:
    return Finding(name, "fail", found, remedy)


def run(checks: Iterable[Check], place: Place) -> list[Finding]:
    """Every check answers; one that breaks is a finding itself."""
    return [_run(check, place) for check in checks]


def _run(check: Check, place: Place) -> Finding:
    try:
        return check(place)
    except Exception as error:
        name = check.__name__.replace("_", " ")
        return fail(
            name, f"could not be checked: {type(error).__name__}: {error}", "correct what it names, then look again"
        )
