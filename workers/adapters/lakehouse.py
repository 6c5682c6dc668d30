"""The lakehouse as lineage asks for it: the columns of a table at a version."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from workers.adapters.sandbox.names import is_name

#: Tables and versions whose columns are remembered: a version never changes.
REMEMBERED = 512


class LakehouseColumns:
    """Reads `warehouse/<schema>/<table>`; None for what is no table there, at that version."""

    def __init__(self, warehouse: Path) -> None:
        self._warehouse = warehouse
        self._remembered = lru_cache(REMEMBERED)(self._read)

    def __call__(self, table: str, version: int) -> Sequence[str] | None:
        parts = table.split(".")
        if len(parts) != 2 or not all(map(is_name, parts)):
            return None
        try:
            return self._remembered(parts[0], parts[1], version)
        except (DeltaError, TableNotFoundError, OSError):
            return None

    def _read(self, schema: str, table: str, version: int) -> Sequence[str]:
        found = DeltaTable(str(self._warehouse / schema / table), version=version)
        return tuple(field.name for field in found.schema().fields)
