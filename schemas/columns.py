"""A table's definition, written once: from it come the Arrow schema, the Delta schema string and the SQL DDL."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

#: type name -> (Arrow, Delta and Spark JSON, SQL). Timestamps are UTC microseconds, stored as INT64.
TYPES: dict[str, tuple[pa.DataType, object, str]] = {
    "string": (pa.string(), "string", "STRING"),
    "long": (pa.int64(), "long", "BIGINT"),
    "int": (pa.int32(), "integer", "INT"),
    "double": (pa.float64(), "double", "DOUBLE"),
    "boolean": (pa.bool_(), "boolean", "BOOLEAN"),
    "date": (pa.date32(), "date", "DATE"),
    "timestamp": (pa.timestamp("us", tz="UTC"), "timestamp", "TIMESTAMP"),
    "strings": (
        pa.list_(pa.string()),
        {"type": "array", "elementType": "string", "containsNull": True},
        "ARRAY<STRING>",
    ),
}


@dataclass(frozen=True)
class Column:
    """A column: its name, a key of TYPES, what it means, and whether it may be null."""

    name: str
    type: str
    comment: str
    nullable: bool = True


@dataclass(frozen=True)
class TableSchema:
    """A table of the bus. `partition_by` columns live in the folder names, not in the data files.

    `stats`: columns whose least and greatest value each log entry says, so that readers can skip files.
    """

    name: str
    comment: str
    columns: tuple[Column, ...]
    partition_by: tuple[str, ...] = ("date",)
    stats: tuple[str, ...] = ()

    @cached_property
    def arrow(self) -> pa.Schema:
        return pa.schema([pa.field(c.name, TYPES[c.type][0], True) for c in self.columns])

    @cached_property
    def file_schema(self) -> pa.Schema:
        """What a data file holds: every column but the partition columns."""
        return pa.schema([field for field in self.arrow if field.name not in self.partition_by])

    @cached_property
    def delta(self) -> str:
        """Delta's schemaString, which is also Spark's `StructType.fromJson` text."""
        fields = [
            # Nullable everywhere: a NOT NULL column is a writer feature that would only bind Spark.
            {"name": c.name, "type": TYPES[c.type][1], "nullable": True, "metadata": {"comment": c.comment}}
            for c in self.columns
        ]
        return json.dumps({"type": "struct", "fields": fields})

    @cached_property
    def spark_ddl(self) -> str:
        return ", ".join(f"{c.name} {TYPES[c.type][2]}" for c in self.columns)

    def sql_ddl(self, qualified_name: str) -> str:
        """CREATE TABLE for Unity Catalog, with comments."""

        def quoted(text: str) -> str:
            return "'" + text.replace("'", "''") + "'"

        lines = ",\n".join(f"  {c.name} {TYPES[c.type][2]} COMMENT {quoted(c.comment)}" for c in self.columns)
        partitions = f"\nPARTITIONED BY ({', '.join(self.partition_by)})" if self.partition_by else ""
        return (
            f"CREATE TABLE IF NOT EXISTS {qualified_name} (\n{lines}\n) USING DELTA{partitions}\n"
            f"COMMENT {quoted(self.comment)}\nTBLPROPERTIES ('delta.appendOnly' = 'true')"
        )
