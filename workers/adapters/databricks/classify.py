"""What kind of statement SQL for a warehouse is, by an allow-list over sqlglot's tree.

This names the class for the policy; it protects nobody. sqlglot takes things for plain selects that are none. On a warehouse
what a statement can reach is decided by Unity Catalog, for the principal whose token is used: give the dry run one that can
only read, and the run one that can write only where results go.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from workers.ports import StatementRefused

LONGEST = 50_000
_CLASSES: tuple[tuple[type[exp.Expression], str], ...] = (
    (exp.Insert, "write"),
    (exp.Update, "write"),
    (exp.Merge, "write"),
    (exp.Delete, "delete"),
    (exp.TruncateTable, "delete"),
    (exp.Query, "read"),
)


@dataclass(frozen=True)
class Classified:
    """`tree`: the statement. `writes`: the table it changes, as it is written there. `reads`: every other table."""

    tree: exp.Expression
    statement_class: str
    reads: tuple[str, ...]
    writes: str | None


def classify(sql: str) -> Classified:
    """Raises StatementRefused for all that is not exactly one statement of a known class."""
    if len(sql) > LONGEST:
        raise StatementRefused("sql.too_long", f"{len(sql)} characters, at most {LONGEST}: split the question")
    try:
        trees = [tree for tree in sqlglot.parse(sql, read="databricks") if tree is not None]
    except (SqlglotError, RecursionError) as error:
        said = str(error).strip().splitlines()[0] if str(error).strip() else "nested too deeply"
        raise StatementRefused("sql.syntax", f"{said}. Correct it, or ask in other words.") from error
    if not trees:
        raise StatementRefused("sql.empty", "there is no statement: write one")
    if len(trees) > 1:
        raise StatementRefused("sql.multiple_statements", "there is more than one statement: send them one by one")
    tree = trees[0]
    found = next((name for kind, name in _CLASSES if isinstance(tree, kind)), None)
    if found is None:
        raise StatementRefused("sql.statement_class", f"a {tree.key} statement is not run: ask for a query instead")
    inner = [
        node
        for node in tree.find_all(exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Command, exp.DDL)
        if node is not tree and not isinstance(node.parent, exp.When)
    ]
    if inner:
        raise StatementRefused("sql.statement_class", "a statement inside another is not run: send them one by one")
    target = _target(tree) if found != "read" else None
    names = {cte.alias_or_name.lower() for cte in tree.find_all(exp.CTE)}
    tables = [_name(table) for table in tree.find_all(exp.Table) if table is not target]
    reads = sorted({name for name in tables if name.lower() not in names})
    return Classified(tree, found, tuple(reads), None if target is None else _name(target))


def _target(tree: exp.Expression) -> exp.Table:
    this = tree.this if not isinstance(tree, exp.TruncateTable) else tree.expressions[0]
    while not isinstance(this, exp.Table):
        this = getattr(this, "this", None)
        if this is None:
            raise StatementRefused("sql.relation", "the statement does not name the table that it changes")
    return this


def _name(table: exp.Table) -> str:
    parts = [part.name for part in table.parts]
    if not all(parts) or any("`" in part or "/" in part for part in parts):
        raise StatementRefused(
            "sql.relation", f"{table.sql(dialect='databricks')} is no table: name tables as schema.table"
        )
    return ".".join(parts)
