"""The session's catalogue: the lakehouse's Delta tables under their names, kept in memory and filled as they appear."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from workers.adapters.sandbox.names import delta_tables

#: How many arguments CatalogTable has after those we give; their defaults are asked of Spark itself.
_GIVEN, _ARGUMENTS = 5, 22


class Catalogue:
    """Entries are put into Spark's catalogue directly: `CREATE TABLE` runs a Delta transaction of half a second for each."""

    def __init__(self, spark: SparkSession, warehouse: Path, schemas: Sequence[str], scratch: Path) -> None:
        self._warehouse = warehouse
        self._schemas = tuple(schemas)
        self._known: set[str] = set()
        self._jvm: Any = spark.sparkContext._gateway.jvm
        self._catalog: Any = spark._jsparkSession.sessionState().catalog()
        self._no_columns: Any = self._jvm.org.apache.spark.sql.types.StructType()
        for schema in self._schemas:
            spark.sql(f"CREATE SCHEMA IF NOT EXISTS {schema} LOCATION '{(scratch / 'schemas' / schema).as_uri()}'")
        self._catalog.setCurrentDatabase(self._schemas[0])

    def refresh(self) -> None:
        """Take in tables that appeared and forget those that went."""
        there = dict(delta_tables(self._warehouse, self._schemas))
        for table in self._known - there.keys():
            self._catalog.dropTable(self._identifier(table), True, False)
        self._known &= there.keys()
        for table in there.keys() - self._known:
            self._catalog.createTable(self._entry(table, there[table]), False, False)
            self._known.add(table)

    @contextlib.contextmanager
    def shown_at(self, table: str, path: Path) -> Iterator[None]:
        """For as long as it takes, the table's name means another folder."""
        known = table in self._known
        if known:
            self._catalog.dropTable(self._identifier(table), True, False)
        self._catalog.createTable(self._entry(table, path), False, False)
        try:
            yield
        finally:
            self._catalog.dropTable(self._identifier(table), True, False)
            self._known.discard(table)

    def smallest_first(self) -> list[str]:
        """The tables that hold data, by its size."""
        sizes = {
            table: sum(file.stat().st_size for file in path.glob("*.parquet"))
            for table, path in delta_tables(self._warehouse, self._schemas)
        }
        return sorted((table for table, size in sizes.items() if size), key=sizes.__getitem__)

    def _entry(self, table: str, path: Path) -> Any:
        kind = self._package.CatalogTable
        storage = self._package.CatalogStorageFormat
        location = self._jvm.java.io.File(str(path)).toURI()
        empty = storage.empty()
        where = storage(
            self._some(location), empty.inputFormat(), empty.outputFormat(), empty.serde(), False, empty.properties(),
            getattr(storage, "apply$default$7")(),
        )  # fmt: skip
        rest = [getattr(kind, f"apply$default${number}")() for number in range(_GIVEN + 1, _ARGUMENTS + 1)]
        external = self._package.CatalogTableType.EXTERNAL()
        return kind(self._identifier(table), external, where, self._no_columns, self._some("delta"), *rest)

    def _identifier(self, table: str) -> Any:
        schema, _, name = table.partition(".")
        return self._jvm.org.apache.spark.sql.catalyst.TableIdentifier(name, self._some(schema))

    def _some(self, value: Any) -> Any:
        return self._jvm.scala.Option.apply(value)

    @property
    def _package(self) -> Any:
        return self._jvm.org.apache.spark.sql.catalyst.catalog
