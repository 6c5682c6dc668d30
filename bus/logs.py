"""Logging as a guest in somebody else's program: loaded when there is something to say, said where it harms nothing."""

from __future__ import annotations

from typing import Any


class LateLogger:
    """Stands for `structlog.get_logger(name)` in modules that a client imports: structlog loads what prints in colour."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, level: str) -> Any:
        import structlog

        return getattr(structlog.get_logger(self._name), level)


def quiet_unless_configured() -> None:
    """Only what is wrong, and on standard error: structlog's own default prints everything among the program's output.

    A program that configures structlog, before or later, decides for itself.
    """
    import logging
    import sys

    import structlog

    if not structlog.is_configured():
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
            logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # wherever that leads when something is said
        )
