"""Exit codes, and what goes wrong said for a person: a cause, a remedy, a code; never a traceback."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DONE, FAILED, MISUSE, REFUSED, TIMED_OUT, INTERRUPTED = 0, 1, 2, 3, 4, 130

#: Exit code by the status of an answer; a pending approval is a time-out unless somebody asked not to wait.
CODES = {
    "answered": DONE,
    "failed": FAILED,
    "refused": REFUSED,
    "timed_out": TIMED_OUT,
    "pending_approval": TIMED_OUT,
}


class CommandError(Exception):
    """What a command stops with. `remedy` is what to type or change; empty when there is none.

    `done`: what is to be known of what was done before, beside the error in the JSON document.
    """

    def __init__(
        self, cause: str, remedy: str = "", code: int = FAILED, rule: str = "", done: Mapping[str, Any] | None = None
    ) -> None:
        self.cause, self.remedy, self.code, self.rule = cause, remedy, code, rule
        self.done = dict(done or {})
        super().__init__(cause)


@dataclass(frozen=True)
class _Known:
    """An error of another module, by the name of its class, so that nothing is imported to recognise it."""

    code: int
    remedy: str = ""


_KNOWN = {
    "LogMissing": _Known(FAILED, "tailrace init"),
    "ForeignLog": _Known(FAILED, "tailrace doctor"),
    "UnfitStore": _Known(FAILED),
    "UnreadableArchive": _Known(FAILED, "restore what it names from a backup of the archive"),
    "MissingArchive": _Known(FAILED, "bring the archive back to where it was"),
    "StoreUnavailable": _Known(FAILED, "check TAILRACE_TABLES, AZURE_* or AWS_* and the network; then try again"),
    "Untrusted": _Known(FAILED, "tailrace doctor"),
    "MissingKey": _Known(MISUSE),
    "ContentTooLarge": _Known(MISUSE, "store it elsewhere and send a reference to it"),
    "ScopeRefused": _Known(REFUSED, "who manages agents says who may: tailrace memory roles"),
    "TimedOut": _Known(TIMED_OUT),
    "Busy": _Known(FAILED, "send later, or run more instances: tailrace worker"),
    "IdTaken": _Known(MISUSE, "an id that names this one message only"),
    "NotAMessage": _Known(MISUSE),
    "Closed": _Known(FAILED),
    "ConfigError": _Known(FAILED, "correct what it names"),
    "HostFailed": _Known(FAILED, "tailrace doctor"),
    "UpkeepRunning": _Known(FAILED, "nothing to do: one of it is enough"),
    "BadJob": _Known(MISUSE, "tailrace jobs list"),
    "JobRunning": _Known(FAILED, "tailrace jobs list shows since when"),
    "CannotAnchor": _Known(FAILED),
    "CannotExport": _Known(MISUSE),
    "CannotServe": _Known(FAILED, "another --metrics-port, or end what listens there"),
    "AlreadyRunning": _Known(FAILED, "tailrace agents shows what runs where"),
    "UnknownAgent": _Known(MISUSE),
    "CannotReplay": _Known(MISUSE),
    "ReplayFailed": _Known(FAILED, "TAILRACE_DEBUG=1 shows where it happened"),
    "BadModel": _Known(FAILED, "correct what it names"),
    "InitFailed": _Known(FAILED, "tailrace init goes on from where it stopped"),
    "JarsMissing": _Known(FAILED, "make setup, once, with a network"),
    "PermissionError": _Known(FAILED, "check who owns the home: tailrace doctor"),
    "FileNotFoundError": _Known(FAILED, "tailrace doctor"),
}


def explained(error: BaseException) -> CommandError:
    """Any error as one a person can act on; what we did not foresee keeps its class's name."""
    if isinstance(error, CommandError):
        return error
    for kind in type(error).__mro__:
        known = _KNOWN.get(kind.__name__)
        if known is not None:
            return CommandError(str(error), known.remedy, known.code, getattr(error, "rule", ""))
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        return CommandError(f"the system said: {error.strerror or error}{where}", "tailrace doctor")
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return CommandError(said, "TAILRACE_DEBUG=1 shows where it happened; tailrace doctor checks this machine")
