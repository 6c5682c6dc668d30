"""The engine for SQL warehouses, through the real SDK, against a server that speaks the API."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("databricks.sdk", reason="the extra `databricks` is not installed")

from databricks.sdk import WorkspaceClient
from pydantic import SecretStr

from config.files import ConfigError
from config.settings import Settings
from jobs.databricks import warehouse_engine
from tests.contract.databricks import Script, warehouse
from workers.adapters.databricks.classify import classify
from workers.adapters.databricks.history import query_history
from workers.adapters.databricks.statements import Statements
from workers.adapters.databricks.warehouse import WarehouseEngine
from workers.ports import OutcomeUnknown, Statement, StatementFailed, StatementRefused

PLAN = (("plan",), [["== Physical Plan ==\nScan c_name#12"]])
HISTORY = (("version", "timestamp"), [["7", "2026-01-01"]])
NOT_FOUND = "[TABLE_OR_VIEW_NOT_FOUND] The table or view `results`.`x` cannot be found."
READ = Statement("sql", "SELECT c_name FROM tpch.customer")
SAVE = Statement("sql", "SELECT c_name FROM tpch.customer", "results.x")
NOW_MS = 1_767_225_600_000
DAY_MS = 86_400_000
DELETE = Statement("sql", "DELETE FROM results.x WHERE a > 1")


class World:
    def __init__(self, script: Script, url: str) -> None:
        self.script = script
        self.client = client = WorkspaceClient(host=url, token="t")
        self.slept: list[float] = []
        self.now = 0.0
        statements = Statements(client, "w1", timeout_s=60, sleep=self.sleep, clock=lambda: self.now)
        self.script.now_ms = NOW_MS
        history = query_history(client, "w1", now=lambda: NOW_MS / 1000)
        self.engine = WarehouseEngine(
            statements, statements, history, now=lambda: NOW_MS / 1000, grant_ttl_s=900, scratch="scratch"
        )

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    # The SDK waits between its own attempts; nothing here is about how long.
    monkeypatch.setattr("databricks.sdk.clock.RealClock.sleep", lambda self, seconds: None)
    script = Script(
        [(r"^EXPLAIN", PLAN), (r"^DESCRIBE HISTORY results\.x", NOT_FOUND), (r"^DESCRIBE HISTORY", HISTORY)]
    )
    with warehouse(script) as url:
        world = World(script, url)
        yield world
        world.client.api_client._api_client._session.close()


async def test_a_query_is_explained_and_then_run(world: World) -> None:
    world.script.answers += [("SELECT c_name", (("c_name",), [["a"], ["b"], [None]]))]
    dry = await world.engine.dry_run(READ)
    assert (dry.statement_class, dry.table_versions, dry.writes) == ("read", {"tpch.customer": 7}, None)
    assert "c_name#" not in dry.plan
    assert dry.digest == (await world.engine.dry_run(READ)).digest
    done = await world.engine.run(READ, "grant-1", 2, digest=dry.digest)
    assert done.result.rows == (("a",), ("b",))
    assert done.result.truncated
    sent = world.script.requests[-1]
    assert sent["statement"].startswith("/* tailrace.grant:grant-1 */ SELECT")
    assert sent["query_tags"] == [{"key": "tailrace.grant", "value": "grant-1"}]
    assert sent["warehouse_id"] == "w1"


@pytest.mark.parametrize("state", ["answer", "plan"])
async def test_failed_sql_is_an_answer_with_http_200(world: World, state: str) -> None:
    said = "[UNRESOLVED_COLUMN] no column named c_nam"
    failed = said if state == "answer" else (("plan",), [[f"Error occurred during query planning: \n{said}\nat x"]])
    world.script.answers.insert(0, ("^EXPLAIN", failed))
    with pytest.raises(StatementFailed, match=r"UNRESOLVED_COLUMN\] no column named c_nam$"):
        await world.engine.dry_run(READ)


async def test_a_result_comes_in_chunks_and_a_statement_takes_its_time(world: World) -> None:
    rows = [[str(n)] for n in range(25)]
    world.script.answers += [("SELECT c_name", (("c_name",), rows))]
    world.script.looks, world.script.chunk = 3, 10
    done = await world.engine.run(READ, "grant-1", 1000)
    assert [row[0] for row in done.result.rows] == [str(n) for n in range(25)]
    assert (done.row_count, done.result.truncated) == (25, False)
    assert world.slept[:3] == [0.2, 0.5, 1.0]


async def test_a_result_is_saved_by_one_commit_that_names_its_grant(world: World) -> None:
    dry = await world.engine.dry_run(SAVE)
    assert (dry.statement_class, dry.writes) == ("create", "results.x")
    made: list[str] = []

    def create(sql: str) -> Any:
        made.append(sql)
        world.script.answers.insert(0, (r"^DESCRIBE HISTORY results\.x", (("version",), [["0"]])))
        world.script.answers.insert(0, (r"^SHOW TBLPROPERTIES", (("key", "value"), [["tailrace.grant", "grant-1"]])))
        return ((), [])

    world.script.answers.insert(0, ("CREATE OR REPLACE", create))
    world.script.answers.insert(0, (r"^SELECT \* FROM results.x", (("c_name",), [["a"]])))
    assert await world.engine.outcome_of("grant-1", "results.x") is None
    done = await world.engine.run(SAVE, "grant-1", 10, digest=dry.digest)
    assert "TBLPROPERTIES ('tailrace.grant' = 'grant-1') AS SELECT" in made[0]
    assert (done.table, done.table_version, done.table_version_before) == ("results.x", 0, None)
    found = await world.engine.outcome_of("grant-1", "results.x")
    assert found is not None
    with pytest.raises(StatementRefused, match=r"grant\.used"):
        await world.engine.run(SAVE, "grant-1", 10)
    assert len(made) == 1


async def test_the_effect_is_tried_on_a_clone_that_is_dropped(world: World) -> None:
    world.script.answers = [
        (r"^EXPLAIN", PLAN),
        (r"^DESCRIBE HISTORY", HISTORY),
        (r"^SELECT \(SELECT count", (("a", "b"), [["10", "8"]])),
        (r"^SELECT count\(\*\) FROM \(SELECT \* FROM results\.x", (("n",), [["2"]])),
        (r"^SELECT count\(\*\) FROM \(SELECT \* FROM scratch", (("n",), [["0"]])),
        (r"^SELECT \* FROM results\.x VERSION AS OF 7 EXCEPT ALL", (("a",), [["2"], ["3"]])),
    ]
    dry = await world.engine.dry_run(DELETE)
    assert dry.statement_class == "delete"
    effect = dry.effect
    assert effect is not None
    assert (effect.rows_before, effect.rows_after, effect.added, effect.removed) == (10, 8, 0, 2)
    assert effect.sample_removed is not None
    assert effect.sample_removed.rows == [["2"], ["3"]]
    deleted = [sql for sql in world.script.seen if sql.startswith("DELETE")]
    assert deleted == [sql for sql in deleted if "scratch.try_" in sql]
    assert len(deleted) == 1
    assert world.script.seen[-1].startswith("DROP TABLE IF EXISTS scratch.try_")


async def test_a_table_that_moved_since_the_dry_run_is_not_written(world: World) -> None:
    dry = await world.engine.dry_run(SAVE)
    world.script.answers.insert(0, (r"^DESCRIBE HISTORY tpch", (("version",), [["8"]])))
    with pytest.raises(StatementRefused, match=r"grant\.dry_run_changed"):
        await world.engine.run(SAVE, "grant-1", 10, digest=dry.digest)
    assert not [sql for sql in world.script.seen if "CREATE" in sql]


@pytest.mark.parametrize("trouble", [(429, {"Retry-After": "1"}), (503, {"Retry-After": "1"})])
async def test_reads_are_repeated_when_the_service_is_busy(world: World, trouble: Any) -> None:
    world.script.trouble = [trouble, trouble]
    assert (await world.engine.dry_run(READ)).table_versions == {"tpch.customer": 7}


async def test_a_write_whose_connection_breaks_is_sent_once_and_in_doubt(world: World) -> None:
    """The SDK repeats a POST that broke; with its usual way of sending, the table would be written twice."""
    world.script.cut = "CREATE OR REPLACE"
    with pytest.raises(OutcomeUnknown, match="did not say whether it took the statement"):
        await world.engine.run(SAVE, "grant-1", 10)
    assert len([sql for sql in world.script.seen if "CREATE OR REPLACE" in sql]) == 1
    world.script.answers.insert(0, ("^SHOW TBLPROPERTIES", (("key", "value"), [])))
    assert await world.engine.outcome_of("grant-1", "results.x") is not None  # the query history has it
    assert await world.engine.outcome_of("grant-2", "results.x") is None


async def test_however_many_others_use_the_warehouse_the_history_is_asked_by_time(world: World) -> None:
    """Twenty thousand newer statements and more: they hid what had run under the grant, and what had not."""
    world.script.answers.insert(0, ("^SHOW TBLPROPERTIES", (("key", "value"), [])))
    long_ago = NOW_MS - 10 * DAY_MS
    world.script.others = [(NOW_MS - n, "SELECT 1") for n in range(2_500)]
    world.script.others += [(long_ago - n, "SELECT 2") for n in range(40_000)]
    world.script.answers.insert(0, (r"^DESCRIBE HISTORY results\.x", HISTORY))
    done = await world.engine.run(DELETE, "grant-1", 10)
    assert done.table == "results.x"
    assert len(world.script.history) == 3  # what began since the grant can have been issued, and nothing else
    began = int(world.script.history[0]["filter_by.query_start_time_range.start_time_ms"])
    assert NOW_MS - DAY_MS < began < NOW_MS - 900_000
    world.script.others.append((long_ago, "/* tailrace.grant:grant-old */ INSERT INTO results.x SELECT 1"))
    assert await world.engine.outcome_of("grant-old", "results.x", (long_ago - 1000) * 1000) is not None
    assert await world.engine.outcome_of("grant-old", "results.x", (NOW_MS - DAY_MS) * 1000) is None


async def test_what_is_older_than_the_history_is_not_known(world: World) -> None:
    """That nothing is found of it proves nothing."""
    world.script.answers.insert(0, ("^SHOW TBLPROPERTIES", (("key", "value"), [])))
    with pytest.raises(OutcomeUnknown, match="goes back 30 days"):
        await world.engine.outcome_of("grant-1", "results.x", (NOW_MS - 31 * DAY_MS) * 1000)


async def test_a_write_that_a_gateway_lost_sight_of_is_in_doubt(world: World) -> None:
    world.script.lost = "CREATE OR REPLACE"
    with pytest.raises(OutcomeUnknown, match="did not say whether it took the statement"):
        await world.engine.run(SAVE, "grant-1", 10)
    assert len([sql for sql in world.script.seen if "CREATE OR REPLACE" in sql]) == 1


async def test_a_write_that_cannot_be_read_back_has_not_failed(world: World) -> None:
    world.script.answers.insert(0, (r"^SELECT \* FROM results.x", "[INTERNAL] the warehouse is being resized"))
    with pytest.raises(OutcomeUnknown, match="could not be read back"):
        await world.engine.run(SAVE, "grant-1", 10)


async def test_what_takes_too_long_is_cancelled(world: World) -> None:
    world.script.endless = "grant-1"
    with pytest.raises(StatementFailed, match="CANCELED"):
        await world.engine.run(READ, "grant-1", 10)
    assert len(world.script.cancelled) == 1
    assert sum(world.slept) > 60


async def test_a_running_statement_is_cancelled(world: World) -> None:
    world.script.endless = "grant-1"
    running = asyncio.create_task(world.engine.run(READ, "grant-1", 10))
    while not await world.engine.cancel("grant-1"):
        await asyncio.sleep(0.01)
    with pytest.raises(StatementFailed, match="CANCELED"):
        await running
    assert not await world.engine.cancel("grant-1")


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("", "sql.empty"),
        ("SELECT 1; DROP TABLE results.x", "sql.multiple_statements"),
        ("DROP TABLE results.x", "sql.statement_class"),
        ("GRANT SELECT ON TABLE results.x TO `eve`", "sql.statement_class"),
        ("SET spark.x = 1", "sql.statement_class"),
        ("CREATE TABLE results.y AS SELECT 1", "sql.statement_class"),
        ("SELECT * FROM delta.`/secret`", "sql.relation"),
        ("DELETE FROM results.x; DELETE FROM results.x", "sql.multiple_statements"),
        ("SELECT ((((", "sql.syntax"),
        ("SELECT " + "(" * 30_000, "sql.syntax"),
        ("x" * 60_000, "sql.too_long"),
    ],
)
async def test_what_is_not_one_known_statement_is_refused_unseen(world: World, sql: str, rule: str) -> None:
    with pytest.raises(StatementRefused) as caught:
        await world.engine.dry_run(Statement("sql", sql))
    assert caught.value.rule == rule
    assert world.script.seen == []


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        (Statement("python", "1"), "execution.language"),
        (Statement("sql", "DELETE FROM tpch.customer"), "target.schema"),
        (Statement("sql", "DELETE FROM results.x", "results.y"), "target.other"),
        (Statement("sql", "SELECT 1", "results.x; DROP TABLE y"), "sql.relation"),
    ],
)
async def test_a_target_elsewhere_is_refused_unseen(world: World, statement: Statement, rule: str) -> None:
    with pytest.raises(StatementRefused) as caught:
        await world.engine.dry_run(statement)
    assert caught.value.rule == rule
    assert world.script.seen == []


def test_tables_that_are_read_and_written() -> None:
    found = classify(
        "MERGE INTO results.x t USING (WITH c AS (SELECT * FROM tpch.orders) SELECT * FROM c JOIN a.b.c d) s ON t.k = s.k "
        "WHEN MATCHED THEN UPDATE SET v = s.v"
    )
    assert (found.statement_class, found.reads, found.writes) == ("write", ("a.b.c", "tpch.orders"), "results.x")


@pytest.mark.parametrize(
    ("settings", "said"),
    [({}, "set TAILRACE_WAREHOUSE_ID"), ({"warehouse_id": "w1", "databricks_host": None}, None)],
)
def test_the_wiring_says_what_is_missing(
    settings: dict[str, Any], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Settings.load(sql_engine="warehouse", **settings)
    if said is not None:
        with pytest.raises(ConfigError, match=said):
            warehouse_engine(given)
        return
    with warehouse(Script()) as url:
        engine = warehouse_engine(given.model_copy(update={"databricks_host": url, "databricks_token": SecretStr("t")}))
    assert isinstance(engine, WarehouseEngine)
