"""Statements that change a table: which one, how, and that nothing else is in them; read from the plan as parsed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from workers.adapters.sandbox import allowed
from workers.adapters.sandbox.names import is_name
from workers.ports import StatementRefused


@dataclass(frozen=True)
class Write:
    """`verb`: insert, update, delete, merge, truncate, drop, alter, create or replace. `rest`: what the guard has yet to check.

    `query`: where the root's query stands among its arguments, for those that save what a query gives.
    """

    verb: str
    statement_class: str
    target: str
    rest: tuple[Any, ...]
    if_exists: bool = False


def write_of(tree: dict[str, Any]) -> Write | None:
    """None for what does not write a table. Raises StatementRefused for a clause that may not be used."""
    kind, args = tree.get("plan"), tree.get("args", [])
    also = tuple(tree.get("also", ()))
    match allowed.WRITES.get(str(kind)):
        case "insert":
            relation, partition, columns, query, _, only_new, _, criteria, evolves = args
            _only_plain(partition, only_new, criteria, evolves, what="PARTITION, REPLACE and SCHEMA EVOLUTION")
            return Write("insert", "write", _target(relation), (columns, query, *also))
        case "update":
            relation, *rest = args
            return Write("update", "write", _target(relation), (*rest, *also))
        case "delete":
            relation, *rest = args
            return Write("delete", "delete", _target(relation), (*rest, *also))
        case "merge":
            relation, source, condition, *clauses, evolves = args
            _only_plain(evolves, what="SCHEMA EVOLUTION")
            deletes = any(item.get("expression") == allowed.DELETE_ACTION for item in _dicts(clauses))
            return Write(
                "merge", "delete" if deletes else "write", _target(relation), (source, condition, *clauses, *also)
            )
        case "create":
            name, partitioning, query, specification, options, if_not_exists, _ = args
            _check_specification(specification, partitioning, options, if_not_exists)
            return Write("create", "create", _named(name["args"][0]), (query,))
        case "replace":
            name, partitioning, query, specification, options, *_ = args
            _check_specification(specification, partitioning, options)
            return Write("replace", "create", _named(name["args"][0]), (query,))
        case "truncate":
            return Write("truncate", "delete", _named(args[0]["args"][0]), also)
        case "drop":
            name, if_exists, _ = args
            return Write("drop", "drop", _named(name["args"][0]), (), bool(if_exists))
        case "alter":
            table, columns = args
            return Write("alter", "alter", _named(table["args"][0]), tuple(_new_columns(columns)))
    return None


def _target(item: dict[str, Any]) -> str:
    """The relation that is written, below the name that the statement may give it."""
    if item.get("plan") == allowed.SUBQUERY_ALIAS:
        item = item["args"][1]
    if item.get("plan") != allowed.UNRESOLVED_RELATION:
        raise StatementRefused("target.name", "only a table can be changed, by its name: write schema.table")
    parts, options, streaming = item["args"]
    if streaming or set(options) - {allowed.PRIVILEGES}:
        raise StatementRefused("target.name", f"{'.'.join(parts)}: write options may not be used: name the table alone")
    return _named(parts)


def _named(parts: Sequence[str]) -> str:
    # Spark ignores case, and so does this; anything outside ASCII stays as it is and is no name.
    lowered = [part.lower() if part.isascii() else part for part in parts]
    if len(lowered) != 2 or not all(is_name(part) for part in lowered):
        raise StatementRefused(
            "target.name", f"{'.'.join(parts)!r} is no table that can be written: name it as schema.table"
        )
    return ".".join(lowered)


def _only_plain(*clauses: Any, what: str) -> None:
    if any(clauses):
        raise StatementRefused(
            "sql.clause", f"{what} may not be used here: write the rows with INSERT, UPDATE or MERGE"
        )


def _check_specification(specification: dict[str, Any], *clauses: Any) -> None:
    """A new table is a Delta table where the lakehouse puts it: nobody says where, or with which properties."""
    properties, provider, options, location, _, collation, serde, external, *more = specification["args"]
    if provider not in (None, "delta") or location is not None or external:
        raise StatementRefused(
            "sql.clause", "USING, LOCATION and EXTERNAL may not be used: every table is a Delta table of the lakehouse"
        )
    if any((properties, any(options["args"]), collation, serde, *more, *clauses)):
        raise StatementRefused(
            "sql.clause",
            "properties, options, partitions and IF NOT EXISTS may not be used: CREATE TABLE name AS SELECT",
        )


def _new_columns(columns: Any) -> Iterator[Any]:
    """A column has a name, a type and a comment; a default or a place would be code that nobody looked at."""
    for column in columns:
        path, name, kind, nullable, comment, *more = column["args"]
        if path is not None or any(more) or not nullable or not isinstance(kind, dict) or "type" not in kind:
            raise StatementRefused("sql.clause", f"column {name}: only a name, a type and a comment may be given")
        yield comment


def _dicts(item: Any) -> Iterator[dict[str, Any]]:
    if isinstance(item, dict):
        yield item
        item = item.get("args", [])
    if isinstance(item, list | tuple):
        for inner in item:
            yield from _dicts(inner)
