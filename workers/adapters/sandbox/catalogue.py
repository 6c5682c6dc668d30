"""The session's catalogue: the lakehouse's Delta tables under their names, kept in memory and filled as they appear."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import SparkSession

from workers.adapters.sandbox.names import delta_tables


class Catalogue:
    def __init__(self, spark: SparkSession, warehouse: Path, schemas: Sequence[str], scratch: Path) -> None:
        self._spark = spark
        self._warehouse = warehouse
        self._schemas = tuple(schemas)
        self._known: set[str] = set()
        for schema in self._schemas:
            spark.sql(f"CREATE SCHEMA IF NOT EXISTS {schema} LOCATION '{scratch / 'schemas' / schema}'")
        spark.catalog.setCurrentDatabase(self._schemas[0])

    def refresh(self) -> None:
        """Take in tables that appeared and forget those that went. The names come from a strict pattern, never from a user."""
        there = dict(delta_tables(self._warehouse, self._schemas))
        for table in self._known - there.keys():
            self._spark.sql(f"DROP TABLE IF EXISTS {table}")
        self._known &= there.keys()
        for table, path in there.items():
            if table not in self._known:
                self._spark.sql(f"CREATE TABLE {table} USING delta LOCATION '{_quoted(path)}'")
                self._known.add(table)

    def tables(self) -> list[str]:
        return sorted(self._known)


def _quoted(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace("'", "\\'")
