"""Logging set up once a process: structlog to standard error, so that standard output stays the command's."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from bus.redaction import Redactor
from workers.runtime.under_way import say_message


def configure(level: str = "INFO", json_lines: bool = False, redactor: Redactor | None = None) -> None:
    """`level` by name. JSON lines for log files and services, words for a terminal.

    `redactor`: by whose rules an event is masked, its exception included; without one, secrets are.
    """
    masks = redactor or Redactor.of_secrets()

    def masked(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {key: masks.value(value, "log") for key, value in event.items()}

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
