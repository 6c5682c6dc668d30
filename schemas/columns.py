"""A table's definition, written once: from it come the Arrow schema, the Delta schema string and the SQL DDL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

#: type name -> (Delta and Spark JSON, SQL). Timestamps are UTC microseconds, stored as INT64.
TYPES: dict[str, tuple[object, str]] = {
    "string": ("string", "STRING"),
    "long": ("long", "BIGINT"),
    "int": ("integer", "INT"),
    "double": ("double", "DOUBLE"),
    "boolean": ("boolean", "BOOLEAN"),
    "date": ("date", "DATE"),
    "timestamp": ("timestamp", "TIMESTAMP"),
    "strings": ({"type": "array", "elementType": "string", "containsNull": True}, "ARRAY<STRING>"),
}


@cache
def arrow_types() -> dict[str, pa.DataType]:
    """The same names as Arrow types. Arrow takes a quarter of a second to load: not before a table is touched."""
    import pyarrow as pa

    return {
        "string": pa.string(),
        "long": pa.int64(),
        "int": pa.int32(),
        "double": pa.float64(),
        "boolean": pa.bool_(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "strings": pa.list_(pa.string()),
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

    `stats`: columns whose least and greatest value each log entry says, so that readers can skip files. `widens`: a
    release may have added columns, so that a table which lacks some is an older one, and gets them; elsewhere it was spoilt.
    """

    name: str
    comment: str
    columns: tuple[Column, ...]
    partition_by: tuple[str, ...] = ("date",)
    stats: tuple[str, ...] = ()
    widens: bool = False

    @cached_property
    def arrow(self) -> pa.Schema:
        import pyarrow as pa

        return pa.schema([pa.field(c.name, arrow_types()[c.type], True) for c in self.columns])

    @cached_property
    def file_schema(self) -> pa.Schema:
        """What a data file holds: every column but the partition columns."""
        import pyarrow as pa

        return pa.schema([field for field in self.arrow if field.name not in self.partition_by])

    @cached_property
    def delta(self) -> str:
        """Delta's schemaString, which is also Spark's `StructType.fromJson` text."""
        fields = [
            # Nullable everywhere: a NOT NULL column is a writer feature that would only bind Spark.
            {"name": c.name, "type": TYPES[c.type][0], "nullable": True, "metadata": {"comment": c.comment}}
            for c in self.columns
        ]
        return json.dumps({"type": "struct", "fields": fields})

    @cached_property
    def spark_ddl(self) -> str:
        return ", ".join(f"{c.name} {TYPES[c.type][1]}" for c in self.columns)

    def sql_ddl(self, qualified_name: str, properties: Mapping[str, str] = MappingProxyType({})) -> str:
        """CREATE TABLE for Unity Catalog, with comments. `properties` come on top of what every table of the bus has."""

        def quoted(text: str) -> str:
            return "'" + text.replace("'", "''") + "'"

        lines = ",\n".join(f"  {c.name} {TYPES[c.type][1]} COMMENT {quoted(c.comment)}" for c in self.columns)
        partitions = f"\nPARTITIONED BY ({', '.join(self.partition_by)})" if self.partition_by else ""
        said = ", ".join(f"'{key}' = '{value}'" for key, value in {"delta.appendOnly": "true", **properties}.items())
        return (
            f"CREATE TABLE IF NOT EXISTS {qualified_name} (\n{lines}\n) USING DELTA{partitions}\n"
            f"COMMENT {quoted(self.comment)}\nTBLPROPERTIES ({said})"
        )
