"""The SQL that auditors and dashboards query: views over `agent_messages`, in Spark SQL, one SELECT a file.

They build on each other by name, in the order of NAMES. On Databricks they run as they stand; DuckDB gets a translation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Literal

#: Whoever wrote the table: our log, which numbers its rows, or Spark, which does not.
Writer = Literal["log", "spark"]
Dialect = Literal["spark", "duckdb"]

NAMES = (
    "placed_messages",
    "valid_messages",
    "receipts",
    "open_messages",
    "conversations",
    "handling_times",
    "message_rate",
    "dead_messages",
)
#: For auditors: who asked, who approved, what ran and what it changed. They stand on those above.
AUDIT_NAMES = (
    "audit_facts",
    "refusals",
    "configuration_changes",
    "key_uses",
    "approval_trail",
    "grants",
    "governed_executions",
    "table_changes",
)
ALL = (*NAMES, *AUDIT_NAMES)


def text(name: str, writer: Writer = "log") -> str:
    """The SELECT behind a view, as it stands in its file."""
    folder = files("bus.views")
    special = folder / f"{name}.{writer}.sql"
    return (special if special.is_file() else folder / f"{name}.sql").read_text()


def statements(
    dialect: Dialect = "spark", writer: Writer = "log", schema: str | None = None, names: Sequence[str] = NAMES
) -> Iterator[str]:
    """One `CREATE VIEW` a view, in order. `schema`: kept there, beside `agent_messages`; without it, for this session only.

    `names`: those of AUDIT_NAMES come after these. A session must see the table as `agent_messages`: `USE catalog.schema`,
    or a view of that name.
    """
    kind, prefix = ("VIEW", f"{schema}.") if schema else ("TEMPORARY VIEW", "")
    for name in names:
        select = text(name, writer)
        yield f"CREATE OR REPLACE {kind} {prefix}{name} AS {select if dialect == 'spark' else _for_duckdb(select)}"


@cache
def _for_duckdb(select: str) -> str:
    import sqlglot
    from sqlglot import exp

    def forgiving(node: exp.Expression) -> exp.Expression:
        # Spark says null where a content is no JSON; DuckDB would give up the whole query.
        return exp.Anonymous(this="TRY", expressions=[node]) if isinstance(node, exp.JSONExtractScalar) else node

    return sqlglot.parse_one(select, read="spark").transform(forgiving).sql(dialect="duckdb")
