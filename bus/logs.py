"""A logger that loads structlog (and what that loads to print in colour) when there is something to say."""

from __future__ import annotations

from typing import Any


class LateLogger:
    """Stands for `structlog.get_logger(name)` in modules that a client imports."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, level: str) -> Any:
        import structlog

        return getattr(structlog.get_logger(self._name), level)
