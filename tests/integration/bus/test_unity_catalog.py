"""The commands over tables that Spark keeps: from `init` to a verified answer, in one JVM that stands for the cluster's.

What they say is tried in tests/unit/cli/test_commands_in_unity_catalog.py; here, that Spark does its part of it.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from apps.cli.main import app
from bus import views
from config.settings import Settings
from jobs.bootstrap import System
from jobs.init_home import SAMPLE_TABLES
from jobs.unity import Unity
from tests.hosting import hosted
from tests.unit.cli.conftest import Run, Said, quiet_logs, workers

__all__ = ["quiet_logs"]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

_schemas = itertools.count(1)


@pytest.fixture
def run(tmp_path: Path, spark: Any, monkeypatch: pytest.MonkeyPatch) -> Run:
    schema = f"catalogue{next(_schemas)}"
    spark.sql(f"CREATE DATABASE {schema} LOCATION '{tmp_path / 'catalogue'}'")
    spark.conf.set("spark.databricks.delta.properties.defaults.checkpointInterval", "1000")
    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TAILRACE_TABLES", f"uc://spark_catalog.{schema}")
    # All of them take minutes to make; that they run on Spark is tried in test_views_on_spark.py.
    monkeypatch.setattr(views, "ALL", views.NAMES[:1])
    for table in SAMPLE_TABLES:
        (tmp_path / "home" / "warehouse" / "tpch" / table).mkdir(parents=True)

    def command(*words: str) -> Said:
        done = CliRunner().invoke(app, [*words, "--json"])
        return Said(done.exit_code, done.stdout, done.stderr)

    return command


def test_from_init_to_a_verified_answer(run: Run, tmp_path: Path, spark: Any) -> None:
    made = run("init")
    assert made.code == 0, made.err
    system = System(Settings.load(home=str(tmp_path / "home")))
    asked = json.dumps({"question": "Top customers"})
    (code,) = (worker for worker in workers() if worker.name == "CodeAgent")
    with hosted(system, code):
        said = run("send", "--to", "code", "--kind", "GenerateCode", "--content", asked, "--as", "eli", "--wait", "120")
        assert (said.code, said.json["response"]["kind"]) == (0, "CodeGenerated"), said.out
    conversation = said.json["correlation_id"]
    traced = run("trace", conversation)
    assert (traced.code, traced.json["messages"][0]["kind"]) == (0, "GenerateCode"), traced.err
    verified = run("audit", "verify")
    assert verified.code == 0, verified.out
    rows = verified.json["checked"]["rows"]
    assert verified.json["checked"]["signatures"] == rows
    # The views are kept in the catalogue, for whoever asks there, and agree.
    name = system.home.catalogue
    assert spark.sql(f"SELECT count(*) AS n FROM {name}.placed_messages").first()["n"] == rows
    # A start reads what came after the written state.
    assert run("upkeep").code == 0
    run("send", "--to", "rag", "--kind", "Odd", "--content", "{}", "--as", "ana")
    follower = Unity(System(Settings.load(home=str(tmp_path / "home")))).follower()
    try:
        assert [row.kind for row in follower.state.open_for("RAGAgent")] == ["Odd"]
        first = follower.conversation(conversation)[0]
        assert system.unity.past.by_id([first.message_id]) == {first.message_id: first}
    finally:
        follower.close()
    # Whoever may, deletes a row: the table says who did, and those it was signed with miss it.
    table = f"{name}.agent_messages"
    spark.sql(f"ALTER TABLE {table} SET TBLPROPERTIES ('delta.appendOnly' = 'false')")
    spark.sql(f"DELETE FROM {table} WHERE kind = 'AuditRecorded' AND correlation_id = '{conversation}'")
    spark.sql(f"ALTER TABLE {table} SET TBLPROPERTIES ('delta.appendOnly' = 'true')")
    spoilt = run("audit", "verify")
    assert spoilt.code == 1
    assert set(spoilt.json["found"]) >= {"table.changed", "log.removed"}
