"""Which columns a statement reads: what sqlglot and the engine's plan say of the tables that the engine saw.

The engine decides which tables are read. Of a table's columns those count that the statement or the plan names at all, and
all of them wherever the text could mean one without naming it. So this errs on one side: it may name a column too many.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import lru_cache
from itertools import pairwise

import sqlglot
from sqlglot import exp
from sqlglot.tokens import Token, TokenType

from schemas.payloads import Code, CodeDryRun
from workers.governance.conditions import ALL_COLUMNS

#: Columns of a table at a version; None where nobody knows.
Columns = Callable[[str, int], Sequence[str] | None]

Reads = Mapping[str, frozenset[str]]

#: Beyond these nobody takes a statement apart: all columns of its tables count. Characters, tokens, brackets in brackets.
LONGEST, MOST_TOKENS, DEEPEST = 50_000, 5_000, 40

#: Statements that stay taken apart: the same one is decided on when it is asked for, and again when it is approved.
REMEMBERED = 16

#: What can mean columns without naming them, or name them in a way of its own.
_OPAQUE = (exp.Command, exp.Anonymous, exp.Pivot, exp.QueryTransform, exp.Parameter, exp.Placeholder, exp.Columns)

#: What can be taken apart.
_STATEMENTS = (exp.Query, exp.Insert, exp.Create, exp.Update, exp.Delete, exp.Merge)

#: After these words TABLE only says what kind of thing is written.
_BEFORE_TARGET = ("INTO", "OVERWRITE", "CREATE", "REPLACE")

_LITERALS = (TokenType.STRING, TokenType.NATIONAL_STRING, TokenType.NUMBER)

_WORD = re.compile(r"\w+")

#: Spark shortens long lists of columns in a plan.
_SHORTENED = re.compile(r"\d+ more fields")


class Lineage:
    """`columns_of`: the columns of a table at the version that the dry run saw."""

    def __init__(self, columns_of: Columns) -> None:
        self._columns_of = columns_of

    def reads(self, code: Code, dry_run: CodeDryRun, declared: Sequence[str] = ()) -> Reads:
        """Columns by `schema.table`; `{"*"}` stands for all. `declared`: what a program said it reads."""
        seen = {table.lower(): version for table, version in dry_run.table_versions.items()}
        written = (dry_run.writes or "").lower()
        if code.language == "restore":
            return {table: frozenset({ALL_COLUMNS}) for table in seen if table != written}
        if code.language != "sql":
            named = {table.lower() for table in declared}
            return {table: frozenset({ALL_COLUMNS}) for table in named | (set(seen) - {written})}
        tokens, statement = _parsed(code.text)
        if statement is None:
            return {table: frozenset({ALL_COLUMNS}) for table in seen}
        names = _Names(statement, tokens, seen)
        if names.opaque or _SHORTENED.search(dry_run.plan):
            return {table: frozenset({ALL_COLUMNS}) for table in seen}
        read = [table for table in seen if table != written or _reads_target(statement, written)]
        planned = {word.lower() for word in _WORD.findall(dry_run.plan)}
        return {table: self._of_table(table, seen[table], names, planned) for table in read}

    def _of_table(self, table: str, version: int, names: _Names, planned: Set[str]) -> frozenset[str]:
        columns = self._columns_of(table, version)
        if table in names.whole or columns is None:
            return frozenset({ALL_COLUMNS})
        named = names.of(table) | planned
        return frozenset(column.lower() for column in columns if column.lower() in named)


class _Names:
    """What a statement names. `whole`: tables all of whose columns it may mean. `opaque`: that goes for every table."""

    def __init__(self, statement: exp.Expression, tokens: Sequence[Token], tables: Iterable[str]) -> None:
        self.opaque = False
        self._anywhere: set[str] = set()
        self._by_table: dict[str, set[str]] = {table: set() for table in tables}
        #: Tables by the names that stand for them anywhere in the statement; nothing for those of subqueries.
        self._aliases: dict[str, set[str]] = {}
        #: What the engine saw and the text does not name is read in a way that nobody here understands.
        self.whole = set(self._by_table)
        self._name_tables(statement)
        for node in statement.walk():
            self._look_at(node)
        self._look_at_tokens(statement, tokens)

    def of(self, table: str) -> Set[str]:
        return self._anywhere | self._by_table[table]

    def _name_tables(self, statement: exp.Expression) -> None:
        for table in statement.find_all(exp.Table):
            meant = self._meant(table)
            self.whole.difference_update(meant)
            for name in {table.name.lower(), table.alias.lower()} - {""}:
                self._aliases.setdefault(name, set()).update(meant)
        for subquery in statement.find_all(exp.Subquery, exp.CTE, exp.Lateral, exp.Values):
            self._aliases.setdefault(subquery.alias.lower(), set())

    def _meant(self, table: exp.Table) -> list[str]:
        """The tables that the engine saw and this may be."""
        return [name for name in self._by_table if _is(table, name)]

    def _look_at(self, node: exp.Expression) -> None:
        match node:
            case node if isinstance(node, _OPAQUE):
                self.opaque = True
            case exp.Column():
                self._column(node)
            case exp.Star():
                self._star(node)
            case exp.Join() if node.method.upper() == "NATURAL":
                self.opaque = True
            case exp.TableAlias() if node.columns and isinstance(node.parent, exp.Table):
                # tpch.customer AS c (a, b, c): columns by their place, under other names.
                self.whole.update(self._meant(node.parent))
            case exp.Identifier() if not isinstance(node.parent, exp.Column | exp.Table | exp.TableAlias):
                if not (isinstance(node.parent, exp.Alias) and node.arg_key == "alias"):
                    self._anywhere.add(node.name.lower())

    def _column(self, column: exp.Column) -> None:
        if isinstance(column.this, exp.Star):
            return  # found as a star
        parts = [part.name.lower() for part in column.parts]
        if len(parts) == 1 and parts[0] in self._aliases:
            self.whole.update(self._aliases[parts[0]])  # a whole row, by the name of its table
        first = self._aliases.get(parts[0])
        if len(parts) != 2 or first is None:
            # a.b.c may be a column of a schema's table, or a field of a column.
            self._anywhere.update(parts)
            return
        self._anywhere.add(parts[0])
        for table in first:
            self._by_table[table].add(parts[1])

    def _look_at_tokens(self, statement: exp.Expression, tokens: Sequence[Token]) -> None:
        """Words of the text that are in no name of the tree: sqlglot took them for something else, and may be wrong."""
        named = Counter(node.name.lower() for node in statement.find_all(exp.Identifier))
        said = Counter(token.text.lower() for token in tokens if token.token_type not in _LITERALS)
        for before, token in pairwise((None, *tokens)):
            if token.token_type == TokenType.TABLE and (before is None or before.text.upper() not in _BEFORE_TARGET):
                self.opaque = True  # TABLE x, which is SELECT * FROM x
        self._anywhere.update(word for word, times in said.items() if times > named[word])

    def _star(self, star: exp.Star) -> None:
        if isinstance(star.parent, exp.Count):
            return
        if isinstance(star.parent, exp.Column) and star.parent.table:
            meant = self._aliases.get(star.parent.table.lower())
            if meant is None:
                self.opaque = True
            else:
                self.whole.update(meant)
            return
        select = star.find_ancestor(exp.Select)
        if select is None:
            self.opaque = True
            return
        for table in _from(select):
            self.whole.update(self._meant(table))


def _from(select: exp.Select) -> Iterator[exp.Table]:
    """Tables that stand in FROM and JOIN of this very SELECT, brackets or not; subqueries speak for themselves."""
    for part in (select.args.get("from_") or select.args.get("from"), *(select.args.get("joins") or ())):
        if part is None:
            continue
        for table in part.find_all(exp.Table):
            if table.find_ancestor(exp.Select) is select:
                yield table


def _reads_target(statement: exp.Expression, target: str) -> bool:
    """Whether the table that is written is read as well. INSERT and CREATE name it once to write it, a query that is saved
    not at all; the others look at the rows they change."""
    if not isinstance(statement, exp.Insert | exp.Create | exp.Query):
        return True
    written = None if isinstance(statement, exp.Query) else statement.this.find(exp.Table)
    return any(table is not written and _is(table, target) for table in statement.find_all(exp.Table))


def _is(table: exp.Table, name: str) -> bool:
    """Whether this may be that `schema.table`; a name without a schema may be of any."""
    said = f"{table.db}.{table.name}" if table.db else f"{name.rpartition('.')[0]}.{table.name}"
    return said.lower() == name


@lru_cache(REMEMBERED)
def _parsed(text: str) -> tuple[Sequence[Token], exp.Expression | None]:
    """No statement for whatever is not one that can be taken apart in good time."""
    if len(text) > LONGEST or _depth(text) > DEEPEST:
        return (), None
    try:
        tokens = sqlglot.tokenize(text, read="spark")
        if len(tokens) > MOST_TOKENS:
            return (), None
        statements = sqlglot.parse(text, read="spark")
    except Exception:  # whatever a parser breaks on, it cannot take apart
        return (), None
    if len(statements) != 1 or not isinstance(statements[0], _STATEMENTS):
        return (), None
    return tokens, statements[0]


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character in "([") - (character in ")]")
        deepest = max(deepest, depth)
    return deepest
