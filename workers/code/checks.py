"""Checks of generated SQL: it parses, it is one SELECT, and every table and column exists. No guard: that is execution's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify


class CheckFailed(Exception):
    """The generated code is wrong; `rule` says which check found it."""

    def __init__(self, rule: str, reason: str) -> None:
        self.rule = rule
        super().__init__(reason)


def check_select(sql: str, tables: Mapping[str, Sequence[str]]) -> None:
    """`tables`: columns by `schema.table`. Raises CheckFailed."""
    try:
        statements = sqlglot.parse(sql, dialect="spark")
    except SqlglotError as error:
        raise CheckFailed("code.syntax", f"the generated SQL does not parse: {error}") from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise CheckFailed("code.not_a_select", "the generated code is not one SELECT")
    query = statements[0]
    names = {cte.alias for cte in query.find_all(exp.CTE)}
    for table in query.find_all(exp.Table):
        name = f"{table.db}.{table.name}" if table.db else table.name
        if name not in tables and not (not table.db and table.name in names):
            raise CheckFailed("code.unknown_table", f"there is no table {name}; known are {', '.join(sorted(tables))}")
    schema: dict[str, dict[str, dict[str, str]]] = {}
    for name, columns in tables.items():
        database, table_name = name.split(".")
        schema.setdefault(database, {})[table_name] = dict.fromkeys(columns, "string")
    try:
        qualify(query.copy(), schema=schema, dialect="spark", validate_qualify_columns=True)
    except SqlglotError as error:
        raise CheckFailed(
            "code.unknown_column", f"the generated SQL names a column that is not there: {error}"
        ) from error
