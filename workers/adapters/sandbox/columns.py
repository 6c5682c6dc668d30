"""Columns that no Delta table can hold, found before anybody approves what would fail."""

from __future__ import annotations

import re

from pyspark.sql import DataFrame

from workers.ports import StatementRefused

#: Delta refuses these in a column's name, and only when the data is written.
_UNSAVABLE_NAME = re.compile(r"[ ,;{}()\n\t=]")
_UNSAVABLE_TYPES = ("void", "interval")


def refuse_unsavable(frame: DataFrame | None, target: str) -> None:
    """What Delta would refuse after the query has run, said before anybody approves it."""
    seen: set[str] = set()
    for name, kind in frame.dtypes if frame is not None else ():
        if name.lower() in seen or _UNSAVABLE_NAME.search(name):
            raise StatementRefused(
                "target.columns", f"column {name!r} cannot be saved to {target}: give it a name of its own with AS"
            )
        if kind.startswith(_UNSAVABLE_TYPES):
            raise StatementRefused("target.columns", f"column {name!r} is {kind}, which no table can hold: cast it")
        seen.add(name.lower())
