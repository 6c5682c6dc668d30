"""Statements that write, on trees written by hand; what Spark really makes of them is tried in tests/integration."""

from pathlib import Path
from typing import Any

import pytest

from workers.adapters.sandbox import guard
from workers.adapters.sandbox.writes import Write
from workers.ports import StatementRefused

CATALYST = "org.apache.spark.sql.catalyst."
LOGICAL = CATALYST + "plans.logical."
SCHEMAS = ("tpch", "results")
STAGE = guard.Snapshot(Path("/h/scratch/stage-1/table"), "results.t", 4)


def plan(name: str, *args: Any) -> dict[str, Any]:
    return {"plan": LOGICAL + name, "args": list(args), "also": []}


def expression(name: str, *args: Any) -> dict[str, Any]:
    return {"expression": CATALYST + name, "args": list(args), "also": []}


def named(kind: str, *parts: str) -> dict[str, Any]:
    return {"plan": f"{CATALYST}analysis.{kind}", "args": [list(parts), "x", False], "also": []}


def relation(*parts: str, options: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"plan": f"{CATALYST}analysis.UnresolvedRelation", "args": [list(parts), list(options), False], "also": []}


def target(*parts: str, options: tuple[str, ...] = ("__required_write_privileges__",)) -> dict[str, Any]:
    return relation(*(parts or ("results", "t")), options=options)


def insert(into: Any = None, query: Any = None, **changes: Any) -> dict[str, Any]:
    clauses = {"partition": [], "columns": [], "overwrite": False, "only_new": False, "by_name": False}
    clauses |= {"criteria": None, "evolves": False} | changes
    return plan(
        "InsertIntoStatement", into or target(), clauses["partition"], clauses["columns"],
        query or plan("Project", [], relation("tpch", "nation")), clauses["overwrite"], clauses["only_new"],
        clauses["by_name"], clauses["criteria"], clauses["evolves"],
    )  # fmt: skip


def merge(*matched: Any, evolves: bool = False) -> dict[str, Any]:
    into = plan("SubqueryAlias", {"value": CATALYST + "AliasIdentifier", "args": ["t", []]}, target())
    return plan("MergeIntoTable", into, relation("tpch", "nation"), None, list(matched), [], [], evolves)


def create(kind: str = "CreateTableAsSelect", name: Any = None, **changes: Any) -> dict[str, Any]:
    clauses = {"properties": [], "provider": None, "options": [], "location": None, "comment": "x", "collation": None}
    clauses |= {"serde": None, "external": False, "constraints": [], "partitioning": [], "only_new": False} | changes
    options = expression("plans.logical.OptionList", clauses["options"])
    specification = expression(
        "plans.logical.UnresolvedTableSpec", clauses["properties"], clauses["provider"], options, clauses["location"],
        clauses["comment"], clauses["collation"], clauses["serde"], clauses["external"], clauses["constraints"],
    )  # fmt: skip
    query = clauses.get("query") or plan("Project", [], relation("tpch", "nation"))
    return plan(
        kind, name or named("UnresolvedIdentifier", "results", "n"), clauses["partitioning"], query, specification, [],
        clauses["only_new"], False,
    )  # fmt: skip


def add_columns(**changes: Any) -> dict[str, Any]:
    column = {"path": None, "name": "x", "kind": {"type": "IntegerType"}, "nullable": True, "comment": "c"}
    column |= {"place": None, "default": None} | changes
    shown = expression("plans.logical.QualifiedColType", *column.values())
    return plan("AddColumns", named("UnresolvedTable", "results", "t"), [shown])


def classified(tree: dict[str, Any]) -> tuple[str, str, str]:
    write = guard.check_parsed(tree, SCHEMAS)
    assert isinstance(write, Write)
    return write.verb, write.statement_class, write.target


def rule_of(tree: dict[str, Any]) -> str | None:
    try:
        guard.check_parsed(tree, SCHEMAS)
    except StatementRefused as refused:
        return refused.rule
    return None


DELETE_ACTION = expression("plans.logical.DeleteAction", None)
UPDATE_ACTION = expression("plans.logical.UpdateStarAction", None)


@pytest.mark.parametrize(
    ("tree", "is_a"),
    [
        (insert(), ("insert", "write", "results.t")),
        (insert(target("RESULTS", "T"), overwrite=True), ("insert", "write", "results.t")),
        (plan("UpdateTable", target(), [], None), ("update", "write", "results.t")),
        (plan("DeleteFromTable", target(), None), ("delete", "delete", "results.t")),
        (merge(UPDATE_ACTION), ("merge", "write", "results.t")),
        (merge(UPDATE_ACTION, DELETE_ACTION), ("merge", "delete", "results.t")),
        (create(), ("create", "create", "results.n")),
        (create("ReplaceTableAsSelect", provider="delta"), ("replace", "create", "results.n")),
        (plan("TruncateTable", named("UnresolvedTable", "results", "t")), ("truncate", "delete", "results.t")),
        (plan("DropTable", named("UnresolvedIdentifier", "results", "t"), True, False), ("drop", "drop", "results.t")),
        (add_columns(), ("alter", "alter", "results.t")),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_statement_is_of_one_class_and_changes_one_table(tree: dict[str, Any], is_a: tuple[str, str, str]) -> None:
    assert classified(tree) == is_a


def test_a_query_writes_nothing() -> None:
    assert guard.check_parsed(plan("Project", [], relation("tpch", "nation")), SCHEMAS) is None


@pytest.mark.parametrize(
    "parts",
    [("t",), ("delta", "/x"), ("spark_catalog", "results", "t"), ("results", "t@v1"), ("results", "\u0442"), ()],
)
def test_only_a_name_of_two_plain_words_can_be_changed(parts: tuple[str, ...]) -> None:
    into = relation(*parts, options=("__required_write_privileges__",))
    place = named("UnresolvedIdentifier", *parts)

    assert rule_of(insert(into)) == "target.name"
    assert rule_of(create(name=place)) == "target.name"
    assert rule_of(plan("DropTable", place, False, False)) == "target.name"
    assert rule_of(plan("TruncateTable", place)) == "target.name"


@pytest.mark.parametrize(
    ("tree", "rule"),
    [
        (insert(target(options=("__required_write_privileges__", "mergeSchema"))), "target.name"),
        (insert(plan("Project", [], target())), "target.name"),
        (insert(partition=[{"value": "scala.Tuple2", "args": ["p", None]}]), "sql.clause"),
        (insert(evolves=True), "sql.clause"),
        (insert(criteria={"value": "x.ReplaceWhere", "args": []}), "sql.clause"),
        (merge(UPDATE_ACTION, evolves=True), "sql.clause"),
        (create(location="/keys"), "sql.clause"),
        (create(provider="text"), "sql.clause"),
        (create(external=True), "sql.clause"),
        (create(properties=[["delta.enableDeletionVectors", "true"]]), "sql.clause"),
        (create(options=[["path", "/keys"]]), "sql.clause"),
        (create(partitioning=[{"value": "x", "args": []}]), "sql.clause"),
        (create(only_new=True), "sql.clause"),
        (create(constraints=[{"value": "x", "args": []}]), "sql.clause"),
        (add_columns(default={"value": "x", "args": []}), "sql.clause"),
        (add_columns(kind={"value": "x.Udt", "args": []}), "sql.clause"),
        (add_columns(nullable=False), "sql.clause"),
        (plan("InsertIntoStatement", target()), "sql.statement_class"),
        (plan("DropTable"), "sql.statement_class"),
        (plan("AddColumns", None, None), "sql.statement_class"),
    ],
)
def test_clauses_that_nobody_looked_at_are_refused(tree: dict[str, Any], rule: str) -> None:
    assert rule_of(tree) == rule


@pytest.mark.parametrize(
    "hidden",
    [
        lambda bad: insert(query=plan("Project", [expression("expressions.ScalarSubquery", bad)])),
        lambda bad: insert(query=bad),
        lambda bad: plan("Project", [], bad),
        lambda bad: plan("UpdateTable", target(), [expression("plans.logical.Assignment", bad)], None),
        lambda bad: plan("DeleteFromTable", target(), expression("expressions.Exists", bad)),
        lambda bad: merge(expression("plans.logical.DeleteAction", bad)),
        lambda bad: create(query=bad),
        lambda bad: insert() | {"also": [bad]},
        lambda bad: {"plan": LOGICAL + "UnresolvedWith", "args": [bad, [], False], "also": []},
        lambda bad: {"plan": LOGICAL + "CompoundBody", "args": [[bad]], "also": []},
    ],
)
def test_a_write_is_the_whole_statement_or_nothing(hidden: Any) -> None:
    """No write inside a query, below WITH, in a subquery or inside another write."""
    assert rule_of(hidden(insert())) == "sql.statement_class"
    assert rule_of(hidden(plan("DeleteFromTable", target(), None))) == "sql.statement_class"


def test_what_a_write_reads_is_held_to_the_same_lists() -> None:
    assert rule_of(insert(query=relation("text", "/etc/passwd"))) == "sql.relation"
    function = expression("analysis.UnresolvedFunction", ["java_method"], [])
    assert rule_of(plan("DeleteFromTable", target(), function)) == "sql.function"
    assert rule_of(plan("DeleteFromTable", target(), DELETE_ACTION)) == "sql.expression"


# --- resolved ---------------------------------------------------------------------------------------------------------


def delta(path: str, version: int = 0) -> dict[str, Any]:
    index = "org.apache.spark.sql.delta.files.TahoeLogFileIndex"
    return {"relation": "x", "index": index, "path": path, "scheme": "file", "version": version, "streaming": False}


def command(name: str, *args: Any) -> dict[str, Any]:
    return {"plan": f"org.apache.spark.sql.delta.commands.{name}", "args": list(args), "also": []}


def append(path: str, query: Any = None) -> dict[str, Any]:
    table = {"table": "org.apache.spark.sql.delta.catalog.DeltaTableV2", "path": path}
    into = {"plan": "org.apache.spark.sql.execution.datasources.v2.DataSourceV2Relation", "args": [table], "also": []}
    return plan("AppendData", into, query or plan("Project", [], delta("/h/warehouse/tpch/nation", 2)))


def resolved(tree: dict[str, Any], verb: str) -> dict[str, int]:
    return guard.check_analyzed(tree, Path("/h/warehouse"), SCHEMAS, verb, STAGE)


def test_what_is_read_and_what_is_changed_are_returned_with_their_versions() -> None:
    assert resolved(append(str(STAGE.path)), "insert") == {"results.t": 4, "tpch.nation": 2}
    assert resolved(command("DeleteCommand", delta(str(STAGE.path))), "delete") == {"results.t": 4}


@pytest.mark.parametrize(
    ("tree", "verb", "rule"),
    [
        (append("/h/warehouse/results/t"), "insert", "target.name"),
        (append("/h/warehouse/tpch/nation"), "insert", "target.name"),
        (append(str(STAGE.path)), "delete", "sql.statement_class"),
        (command("VacuumTableCommand"), "delete", "sql.statement_class"),
        (append(str(STAGE.path), append(str(STAGE.path))), "insert", "sql.statement_class"),
        (append(str(STAGE.path), command("DeleteCommand")), "insert", "sql.statement_class"),
        (append(str(STAGE.path), delta("/h/tables/agent_messages")), "insert", "sql.relation"),
        (command("MergeIntoCommand", expression("expressions.CallMethodViaReflection")), "merge", "sql.expression"),
        (command("UpdateCommand", expression("plans.logical.DeltaMergeAction")), "update", "sql.expression"),
    ],
)
def test_the_resolved_command_is_the_one_that_was_parsed_on_the_stage(
    tree: dict[str, Any], verb: str, rule: str
) -> None:
    with pytest.raises(StatementRefused) as refused:
        resolved(tree, verb)

    assert refused.value.rule == rule


def test_without_a_stage_nothing_that_writes_is_resolved() -> None:
    with pytest.raises(StatementRefused):
        guard.check_analyzed(append(str(STAGE.path)), Path("/h/warehouse"), SCHEMAS)
