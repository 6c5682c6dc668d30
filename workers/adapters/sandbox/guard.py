"""The guard: decides over Spark's own plans whether a statement is one query of declared tables, or one change of one of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from workers.adapters.sandbox import allowed
from workers.adapters.sandbox.names import is_name
from workers.adapters.sandbox.writes import Write, write_of
from workers.ports import StatementRefused

#: Brackets inside brackets. Spark's parser takes time that grows with the square of it, and then its stack ends.
DEEPEST_NESTING = 100

#: Characters. A question's SQL is a few hundred; a parser fed with megabytes recurses until its stack ends.
LONGEST_STATEMENT = 50_000

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True)
class Snapshot:
    """The copy of the target on which a statement is tried: where it lies, and which version of which table it shows."""

    path: Path
    table: str
    version: int


def check_text(sql: str) -> None:
    if not sql.strip():
        raise StatementRefused("sql.empty", "there is no statement: write one SELECT")
    if len(sql) > LONGEST_STATEMENT:
        raise StatementRefused(
            "sql.too_long", f"{len(sql)} characters, at most {LONGEST_STATEMENT}: split the question"
        )
    if "\0" in sql:
        raise StatementRefused("sql.syntax", "the statement holds a NUL character: remove it")
    depth = 0
    for character in sql:
        depth += (character in "([") - (character in ")]")
        if depth > DEEPEST_NESTING:
            raise too_deep()


def check_parsed(tree: Any, schemas: Sequence[str]) -> Write | None:
    """The plan as parsed, before any name is resolved. Raises StatementRefused and names the rule.

    Returns how the statement changes which table, or None: then it only reads.
    """
    root = str(tree.get("plan", ""))
    try:
        write = write_of(tree)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        _refuse_plan(root)  # a form of the statement that nobody here has seen
    if write is None and root not in allowed.PARSED_PLANS:
        _refuse_plan(root)
    also = allowed.WRITE_EXPRESSIONS.get(write.verb, frozenset()) if write else frozenset()
    rest = tree if write is None else list(write.rest)
    ctes = {name.lower() for name in _cte_names(rest)}
    for item in _walk(rest):
        if "plan" in item:
            _check_parsed_plan(item, schemas, ctes)
        elif "expression" in item:
            if item["expression"] not in also:
                _check_parsed_expression(item)
        else:
            _check_value(item)
    return write


def check_analyzed(
    tree: Any, warehouse: Path, schemas: Sequence[str], verb: str = "", target: Snapshot | None = None
) -> dict[str, int]:
    """The plan as resolved: only queries over Delta tables below `warehouse`. Returns the version of each table read.

    With `verb`, its root is the command of that name, and what it changes is `target`.
    """
    versions: dict[str, int] = {} if target is None else {target.table: target.version}
    also = allowed.ANALYZED_WRITE_EXPRESSIONS.get(verb, frozenset())
    if verb and tree.get("plan") not in allowed.ANALYZED_WRITES[verb]:
        _refuse_plan(tree.get("plan", ""))
    for item in _walk(tree):
        if "relation" in item:
            if target is not None and item.get("path") == str(target.path) and item.get("index") == allowed.DELTA_INDEX:
                continue
            table, version = _delta_table(item, warehouse, schemas)
            versions[table] = version
        elif "table" in item:
            if target is None or item["path"] != str(target.path):
                raise StatementRefused("target.name", "the statement would change another table than it names")
        elif "plan" in item:
            known = item["plan"] in allowed.ANALYZED_PLANS
            if not known and not (verb and (item is tree or item["plan"] in allowed.ANALYZED_TARGETS)):
                _refuse_plan(item["plan"])
        elif "expression" in item:
            if item["expression"] not in also:
                _check_analyzed_expression(item["expression"])
        elif "node" in item:
            raise StatementRefused(
                "sql.expression", f"{_words(item['node'])} may not run: rewrite the query without it"
            )
    return dict(sorted(versions.items()))


def _check_parsed_plan(item: dict[str, Any], schemas: Sequence[str], ctes: set[str]) -> None:
    kind = item["plan"]
    if kind not in allowed.PARSED_PLANS:
        _refuse_plan(kind)
    if kind == allowed.UNRESOLVED_RELATION:
        _check_relation(item["args"], schemas, ctes)
    elif kind == allowed.WITH and item["args"][2]:
        raise StatementRefused("sql.clause", "WITH RECURSIVE may run for ever: write the steps one by one")


def _check_parsed_expression(item: dict[str, Any]) -> None:
    kind = item["expression"]
    if kind in allowed.EXPRESSION_REFUSALS:
        raise StatementRefused(*allowed.EXPRESSION_REFUSALS[kind])
    if kind not in allowed.PARSED_EXPRESSIONS:
        raise StatementRefused(
            "sql.expression", f"{_words(kind)} is not among the expressions that may run: rewrite it without"
        )
    if kind == allowed.UNRESOLVED_FUNCTION:
        _check_function(item["args"][0])


def _check_analyzed_expression(kind: str) -> None:
    name = _short(kind)
    if not kind.startswith(allowed.EXPRESSION_PACKAGES) or name in allowed.FORBIDDEN_EXPRESSIONS:
        raise StatementRefused("sql.expression", f"{_words(kind)} is nothing a query may use: write the value itself")


def _check_value(item: dict[str, Any]) -> None:
    kind = item.get("value") or item.get("leaf") or item.get("node")
    if kind is not None and kind not in allowed.VALUES:
        raise StatementRefused(
            "sql.expression", f"a {_words(kind)} is not among the values that may be used: rewrite it without"
        )


def _check_relation(args: list[Any], schemas: Sequence[str], ctes: set[str]) -> None:
    parts, options, streaming = args
    shown = ".".join(parts)
    if streaming or options:
        raise StatementRefused(
            "sql.relation", f"{shown}: streams and read options may not be used: name the table alone"
        )
    if len(parts) == 1 and parts[0].lower() in ctes:
        return
    # Spark ignores case, and so does this; anything outside ASCII stays as it is and is no name.
    lowered = [part.lower() if part.isascii() else part for part in parts]
    if len(parts) > 2 or not all(is_name(part) for part in lowered):
        raise StatementRefused("sql.relation", f"{shown!r} is no table of the lakehouse: name tables as schema.table")
    if len(parts) == 2 and lowered[0] not in schemas:
        raise StatementRefused(
            "sql.relation", f"schema {parts[0]!r} is not declared: tables live in {', '.join(schemas)}"
        )


def _check_function(parts: list[str]) -> None:
    shown = ".".join(parts)
    name = parts[0].lower()
    if len(parts) > 1 or not name.isascii():
        raise StatementRefused(
            "sql.function", f"{shown!r} is not a built-in function: only those may run, by their plain name"
        )
    if name in allowed.VOLATILE_FUNCTIONS:
        raise StatementRefused(
            "sql.function", f"{shown} gives another value each time, so nobody could approve it: write the value itself"
        )
    if name not in allowed.FUNCTIONS:
        raise StatementRefused(
            "sql.function", f"function {shown!r} is not among those that may run: rewrite it without"
        )


def _delta_table(item: dict[str, Any], warehouse: Path, schemas: Sequence[str]) -> tuple[str, int]:
    path = item.get("path")
    if (
        item.get("index") != allowed.DELTA_INDEX
        or path is None
        or item.get("scheme") not in ("file", "null")
        or item["streaming"]
    ):
        raise StatementRefused(
            "sql.relation", "a name resolves to something that is no Delta table: name tables of the lakehouse"
        )
    try:
        schema, table = Path(path).relative_to(warehouse).parts
    except ValueError:
        raise StatementRefused("sql.relation", f"a name resolves to {path}, outside of the lakehouse") from None
    if schema not in schemas or not is_name(table):
        raise StatementRefused(
            "sql.relation", f"{schema}.{table} is not a declared table: tables live in {', '.join(schemas)}"
        )
    return f"{schema}.{table}", int(item["version"])


def _cte_names(tree: Any) -> Iterator[str]:
    for item in _walk(tree):
        if item.get("plan") == allowed.WITH:
            for definition in item["args"][1]:
                yield definition["args"][0]


def _walk(item: Any) -> Iterator[dict[str, Any]]:
    """Every dict of the tree: nodes, values and leaves, whatever argument they sit in."""
    waiting = [item]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(reversed(item.get("also", ())))
            waiting.extend(reversed(item.get("args", ())))
        elif isinstance(item, list):
            waiting.extend(reversed(item))


def _refuse_plan(kind: str) -> NoReturn:
    if kind in allowed.PLAN_REFUSALS:
        raise StatementRefused(*allowed.PLAN_REFUSALS[kind])
    words = _words(kind)
    what = allowed.STATEMENT_NAMES.get(_short(kind)) or words.partition(" ")[0]
    raise StatementRefused("sql.statement_class", f"{what} ({words}): {allowed.ONE_STATEMENT}")


def _short(kind: str) -> str:
    return kind.rpartition(".")[2].rstrip("$").rpartition("$")[2]


def _words(kind: str) -> str:
    return (
        _CAMEL.sub(" ", _short(kind))
        .lower()
        .removeprefix("unresolved ")
        .removesuffix(" command")
        .removesuffix(" statement")
    )


def unparsable(sql: str, reason: str) -> StatementRefused:
    """What to say about text that Spark's parser does not take."""
    if "TOO_COMPLEX" in reason:
        return too_deep()
    if _has_more_after_semicolon(sql):
        return StatementRefused("sql.multiple_statements", "there is more than one statement: send them one by one")
    return StatementRefused("sql.syntax", f"{reason} Correct it, or ask in other words.")


def too_deep() -> StatementRefused:
    return StatementRefused("sql.too_deep", "the statement is nested too deeply: break it up with WITH")


def _has_more_after_semicolon(sql: str) -> bool:
    """Only chooses the words of a refusal that is certain already."""
    bare = re.sub(r"--[^\n]*|/\*.*?\*/|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`", " ", sql, flags=re.DOTALL)
    return bool(re.search(r";\s*[^\s;]", bare))
