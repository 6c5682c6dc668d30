"""Statements made at random, held against the engine: whatever the plan check calls a query is run, and nothing may have changed.

`python -m tests.attacks.fuzz --minutes 10 [--seed N]` runs it in a home of its own; the tests run a short one with a fixed seed.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.attacks.sql_smuggling import ALL, state_of
from tests.lakehouses import SECRET, make_lakehouse
from workers.adapters.sandbox import allowed
from workers.adapters.sandbox.engine import SparkSandbox
from workers.ports import StatementFailed, StatementRefused

#: What `expr` computes below: it comes out of no query, only out of a program that was started.
PRODUCT = str(7_654_321 * 1_234_567)

QUERIES = [
    "SELECT n_name, count(*) AS n FROM tpch.nation GROUP BY n_name ORDER BY n DESC LIMIT 5",
    "SELECT r_name, max(n_nationkey) FROM tpch.region JOIN tpch.nation ON r_regionkey = n_regionkey GROUP BY r_name",
    "WITH a AS (SELECT * FROM tpch.nation) SELECT a.n_name FROM a WHERE a.n_regionkey IN (SELECT r_regionkey FROM tpch.region)",
    "SELECT n_name, row_number() OVER (PARTITION BY n_regionkey ORDER BY n_name) AS place FROM tpch.nation",
    "SELECT CASE WHEN n_nationkey > 3 THEN upper(n_name) ELSE substr(n_comment, 1, 5) END AS x FROM tpch.nation",
    "SELECT * FROM tpch.region UNION ALL SELECT * FROM tpch.region",
    "SELECT n_regionkey, sum(n_nationkey) FILTER (WHERE n_name LIKE 'A%') FROM tpch.nation GROUP BY CUBE (n_regionkey)",
    "SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS t(x, y)",
    "SELECT * FROM tpch.nation EXCEPT SELECT * FROM tpch.nation WHERE n_nationkey = 1",
    "SELECT (SELECT max(r_name) FROM tpch.region WHERE r_regionkey = n_regionkey) AS r FROM tpch.nation",
    "SELECT CAST(n_nationkey AS STRING) || ' ' || trim(n_name) FROM tpch.nation WHERE n_name RLIKE '^A' LIMIT 3",
]
#: Pieces of statements that do something, to be put where they do not belong.
PIECES = [
    "TRANSFORM (n_name) USING 'cat HOME/keys/secret.txt' AS (line)",
    "TRANSFORM (n_name) USING 'expr 7654321 * 1234567' AS (line)",
    "java_method('java.nio.file.Files', 'readString', 'HOME/keys/secret.txt')",
    "reflect('java.lang.System', 'getenv', 'PATH')",
    "text.`HOME/keys/secret.txt`",
    "delta.`HOME/tables/agent_messages`",
    "IDENTIFIER('text.`HOME/keys/secret.txt`')",
    "; DROP TABLE tpch.nation",
    "; DELETE FROM tpch.nation",
    "INSERT INTO tpch.nation",
    "INSERT OVERWRITE TABLE tpch.region",
    "INSERT OVERWRITE DIRECTORY 'HOME/warehouse/x' USING csv",
    "CREATE OR REPLACE TABLE tpch.region AS",
    "CREATE TABLE tpch.region USING text LOCATION 'HOME/keys'",
    "CREATE TEMPORARY VIEW nation AS",
    "CACHE TABLE x AS",
    "EXECUTE IMMEDIATE 'DROP TABLE tpch.nation'",
    "EXPLAIN",
    "|> WHERE true",
    "LATERAL VIEW explode(array(1)) t AS x",
    "TABLESAMPLE (1 ROWS)",
    "VERSION AS OF 0",
    "/*+ REPARTITION(3) */",
    "/* x */",
    "-- x\n",
    "WITH x AS (SELECT 1)",
    "UNION ALL SELECT value FROM text.`/etc/passwd`",
    "OVER (PARTITION BY 1)",
]
_FUNCTIONS = sorted(allowed.FUNCTIONS | allowed.VOLATILE_FUNCTIONS | {"java_method", "reflect", "explode", "range"})
_COLUMNS = [
    "n_name",
    "n_nationkey",
    "n_regionkey",
    "n_comment",
    "1",
    "'a'",
    "NULL",
    "1.5BD",
    "true",
    "-1",
    "array(1, 2)",
]
_TOKEN = re.compile(r"'[^']*'|`[^`]*`|\w+|\s+|.", re.DOTALL)


class Maker:
    """Statements, always the same ones for the same seed."""

    def __init__(self, seed: int, home: Path) -> None:
        self._random = random.Random(seed)
        self._home = str(home)
        self._corpus = QUERIES + [sql for _, sql in ALL if 0 < len(sql) < 2000]

    def __iter__(self) -> Iterator[str]:
        while True:
            make = self._random.choice(
                (
                    self._query,
                    self._query,
                    self._nested,
                    self._nested,
                    self._mutant,
                    self._mutant,
                    self._crossed,
                    self._wrapped,
                )
            )
            yield make().replace("HOME", self._home)

    def _query(self) -> str:
        r = self._random
        shown = ", ".join(self._value(2) for _ in range(r.randint(1, 3)))
        text = f"SELECT {r.choice(('', 'DISTINCT ', 'ALL '))}{shown} FROM {self._source(2)}"
        if r.random() < 0.4:
            text += f" WHERE {self._value(2)} {r.choice(('=', '<', '<>', 'LIKE', '<=>'))} {self._value(1)}"
        if r.random() < 0.2:
            text += f" GROUP BY {r.choice(('ALL', '1', self._value(1)))}"
        if r.random() < 0.3:
            text += f" ORDER BY {self._value(1)} LIMIT {r.randint(0, 5)}"
        return text

    def _value(self, deep: int) -> str:
        r = self._random
        if deep == 0 or r.random() < 0.3:
            return r.choice(_COLUMNS)
        if r.random() < 0.05:
            return r.choice(PIECES)
        if r.random() < 0.1:
            return f"(SELECT max({self._value(deep - 1)}) FROM {self._source(deep - 1)})"
        arguments = ", ".join(self._value(deep - 1) for _ in range(r.choice((0, 1, 1, 1, 2, 2, 3))))
        return f"{r.choice(_FUNCTIONS)}({arguments})"

    def _source(self, deep: int) -> str:
        r = self._random
        if deep > 0 and r.random() < 0.3:
            return f"(SELECT * FROM {self._source(deep - 1)}) AS t{deep}"
        return r.choice(
            (
                "tpch.nation",
                "tpch.nation",
                "tpch.nation",
                "nation",
                "tpch.region CROSS JOIN tpch.nation",
                r.choice(PIECES),
            )
        )

    def _mutant(self) -> str:
        """A known statement with a few of its words taken out, doubled, exchanged, or something else put between."""
        r = self._random
        words = _TOKEN.findall(r.choice(self._corpus))
        for _ in range(r.randint(1, 4)):
            at = r.randrange(len(words)) if words else 0
            match r.randrange(5):
                case 0 if words:
                    del words[at]
                case 1:
                    words[at:at] = [" ", r.choice(PIECES), " "]
                case 2 if words:
                    words[at] = r.choice(_TOKEN.findall(r.choice(self._corpus)) or [" "])
                case 3:
                    words[at:at] = words[at : at + r.randint(1, 5)]
                case _ if words:
                    words[at] = r.choice((words[at].upper(), f"/**/{words[at]}", f"{words[at]}\n", f"`{words[at]}`"))
        return "".join(words)

    def _crossed(self) -> str:
        """The beginning of one and the end of another."""
        r = self._random
        one, other = (_TOKEN.findall(r.choice(self._corpus)) for _ in range(2))
        return "".join(one[: r.randint(0, len(one))]) + " " + "".join(other[r.randint(0, len(other)) :])

    def _nested(self) -> str:
        """A query of queries: almost always a good one."""
        r = self._random
        text = r.choice(QUERIES)
        for _ in range(r.randint(0, 2)):
            text = r.choice(
                ("SELECT * FROM ({}) AS q", "WITH q AS ({}) SELECT * FROM q", "SELECT EXISTS ({}) AS e", "({}) LIMIT 7",
                 "SELECT count(*) AS n FROM ({}) AS q WHERE EXISTS (SELECT 1 FROM tpch.region)")
            ).format(text)  # fmt: skip
        return text if r.random() < 0.5 else text.replace("n_name", f"{r.choice(_FUNCTIONS)}(n_name)", 1)

    def _wrapped(self) -> str:
        r = self._random
        inner = r.choice((r.choice(QUERIES), r.choice(self._corpus), self._mutant()))
        return r.choice(
            (
                "SELECT * FROM ({})", "WITH x AS ({}) SELECT * FROM x", "SELECT EXISTS ({})", "SELECT 1 AS a WHERE 1 IN ({})",
                "SELECT n_name FROM tpch.nation UNION ALL {}", "({})", "{} LIMIT 3", "SELECT * FROM tpch.region, LATERAL ({})",
                "CREATE TABLE results.fuzzed AS {}", "INSERT INTO results.kept {}",
            )
        ).format(inner)  # fmt: skip


@dataclass
class Found:
    """`ran`: queries; `tried`: changes that were only tried; `broken`: statements after which something was not as before."""

    ran: int = 0
    tried: int = 0
    failed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[str, str]] = field(default_factory=list)

    @property
    def all(self) -> int:
        return self.ran + self.tried + self.failed + self.refused.total()


def contents(home: Path) -> dict[str, str]:
    return {name: hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in state_of(home)}


async def fuzz(sandbox: SparkSandbox, home: Path, seed: int, statements: int | None, seconds: float | None) -> Found:
    """Until so many statements were tried, or so many seconds have passed."""
    found, ends = Found(), time.monotonic() + (seconds or 1e9)
    hashed, before = contents(home), state_of(home)
    for sql in Maker(seed, home):
        if found.all == statements or time.monotonic() > ends:
            break
        said = await _one(sandbox, sql, found)
        if SECRET in said or PRODUCT in said:
            found.broken.append((sql, said[:300]))
        if state_of(home) != before:
            found.broken.append((sql, str(set(state_of(home).items()) ^ set(before.items()))[:500]))
            before = state_of(home)
    if contents(home) != hashed and not found.broken:
        found.broken.append(("all of them", "a file has other bytes, and the same size and time"))
    return found


async def _one(sandbox: SparkSandbox, sql: str, found: Found) -> str:
    try:
        seen = await sandbox.dry_run(sql, None)
        if seen.statement_class != "read" or seen.writes is not None:
            found.tried += 1
            return str(seen.effect)
        done = await sandbox.run(sql, None, "a grant", 100_000)
    except StatementRefused as refused:
        found.refused[refused.rule] += 1
        return refused.reason
    except StatementFailed as failed:
        found.failed += 1
        return str(failed)
    found.ran += 1
    return str(done.result.rows)


async def _long(minutes: float, seed: int) -> Found:
    with tempfile.TemporaryDirectory(prefix="tailrace-fuzz-") as folder:
        home = make_lakehouse(Path(folder, "home"), Path(folder, "files"))
        sandbox = SparkSandbox(home, timeout_s=600)
        try:
            await sandbox.warm()
            sandbox.timeout_s = 60
            return await fuzz(sandbox, home, seed, None, minutes * 60)
        finally:
            await sandbox.close()


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--minutes", type=float, default=1.0)
    asked.add_argument("--seed", type=int, default=1)
    said = asked.parse_args()
    found = asyncio.run(_long(said.minutes, said.seed))
    print(f"{found.all} statements: {found.ran} queries ran, {found.tried} changes were tried, {found.failed} failed")  # noqa: T201  # a program
    for rule, count in found.refused.most_common():
        print(f"  refused {count:6} {rule}")  # noqa: T201  # a program
    for sql, what in found.broken:
        print(f"BROKEN by {sql!r}\n  {what}")  # noqa: T201  # a program
    raise SystemExit(1 if found.broken else 0)


if __name__ == "__main__":
    main()
