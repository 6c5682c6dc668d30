"""Logging set up once a process: structlog to standard error, so that standard output stays the command's."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

from bus.redaction import Redactor
from workers.runtime.under_way import say_message

#: What is in the place of every value while nobody knows what must be masked.
WITHHELD = "[withheld: the redaction policy cannot be read]"
#: What our own code says of an event, and no policy is about.
_OURS = frozenset(("event", "level", "timestamp"))


def configure(
    level: str = "INFO", json_lines: bool = False, redactor: Redactor | Callable[[], Redactor] | None = None
) -> None:
    """`level` by name. JSON lines for log files and services, words for a terminal.

    `redactor`: by whose rules an event is masked, its exception included, or what reads them when the first event comes;
    without one, secrets are.
    """
    masks = _Masks(redactor or Redactor.of_secrets())

    def masked(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return masks(event)

    renderer = (
        structlog.processors.JSONRenderer()
        if json_lines
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            say_message,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            # A traceback is text before it is masked, for errors quote what they are about.
            structlog.processors.format_exc_info,
            masked,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


class _Masks:
    """A policy that is read when it is first needed: most commands log nothing, and start sooner without it."""

    def __init__(self, redactor: Redactor | Callable[[], Redactor]) -> None:
        self._redactor = redactor if isinstance(redactor, Redactor) else None
        self._read = None if isinstance(redactor, Redactor) else redactor

    def __call__(self, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if self._redactor is None and self._read is not None:
            try:
                self._redactor = self._read()
            except Exception:
                # The command says what is wrong with the policy; a log line that fails would say it instead of that.
                secrets = Redactor.of_secrets()
                return {key: secrets.value(v, "log") if key in _OURS else WITHHELD for key, v in event.items()}
        assert self._redactor is not None
        return {key: self._redactor.value(value, "log") for key, value in event.items()}
