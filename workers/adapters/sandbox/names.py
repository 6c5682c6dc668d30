"""Names of tables in the lakehouse: which ones may be read, and which ones a statement may change."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from workers.ports import StatementRefused

#: ASCII only and lower case: a name that needs quoting, or looks like another one, has no place in a governed lakehouse.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")

#: The sample's business tables, and where results go. Bare table names mean the first.
SCHEMAS = ("tpch", "results")

#: Where statements may write. Source tables live in other schemas: whoever changed one would falsify every later analysis.
WRITABLE = ("results",)


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def target_path(warehouse: Path, target: str, schemas: Sequence[str], writable: Sequence[str] = WRITABLE) -> Path:
    """The folder of a target table. Raises StatementRefused with `target.name`, `target.schema` or `target.protected`."""
    parts = target.split(".")
    if len(parts) != 2 or not all(is_name(part) for part in parts):
        raise StatementRefused(
            "target.name",
            f"{target!r} is no table name: write schema.table in lower-case letters, digits and underscores",
        )
    if parts[0] not in schemas:
        raise StatementRefused("target.schema", f"schema {parts[0]!r} is not declared: use one of {', '.join(schemas)}")
    if parts[0] not in writable:
        raise StatementRefused(
            "target.protected",
            f"{target} lies in a schema of source tables, which are never changed: write to {', '.join(writable)}",
        )
    path = warehouse / parts[0] / parts[1]
    if path.is_symlink() or path.parent.is_symlink():
        raise StatementRefused("target.protected", f"{target} is a link to somewhere else: choose another name")
    return path


def delta_tables(warehouse: Path, schemas: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Every Delta table of the declared schemas as (`schema.table`, folder), in a stable order."""
    for schema in schemas:
        folder = warehouse / schema
        if not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            if is_name(path.name) and not path.is_symlink() and (path / "_delta_log").is_dir():
                yield f"{schema}.{path.name}", path
