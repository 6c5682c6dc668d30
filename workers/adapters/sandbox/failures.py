"""Spark's errors in the words of the one who asked."""

from __future__ import annotations

import re

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from workers.adapters.sandbox import guard
from workers.ports import StatementFailed

#: Java puts the classes of nested exceptions before what they say.
_EXCEPTION_NAMES = re.compile(r"^(?:[\w.$]+(?:Exception|Error): )+")


class failures:  # lower case, for it reads as a word after `with`
    """Spark's errors as StatementFailed with their first sentence; a stack trace helps nobody who asked a question."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, PySparkException | Py4JJavaError):
            said = first_lines(error)
            raise guard.too_deep() if said.endswith("StackOverflowError") else StatementFailed(said) from error
        if isinstance(error, RecursionError):
            raise guard.too_deep() from error


def first_lines(error: Exception) -> str:
    text = str(error.java_exception.toString()) if isinstance(error, Py4JJavaError) else str(error)
    lines = [line.strip() for line in text.strip().splitlines()]
    return _EXCEPTION_NAMES.sub("", lines[0] if lines else type(error).__name__)[:500]
