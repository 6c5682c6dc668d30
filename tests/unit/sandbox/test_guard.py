"""The guard on trees written by hand; what Spark's parser really makes of attacks is tried in tests/integration."""

from pathlib import Path
from typing import Any

import pytest

from workers.adapters.sandbox import guard
from workers.ports import StatementRefused

CATALYST = "org.apache.spark.sql.catalyst."
LOGICAL = CATALYST + "plans.logical."
SCHEMAS = ("tpch", "results")


def plan(name: str, *args: Any) -> dict[str, Any]:
    return {"plan": LOGICAL + name, "args": list(args), "also": []}


def expression(name: str, *args: Any) -> dict[str, Any]:
    return {"expression": CATALYST + name, "args": list(args), "also": []}


def relation(*parts: str, options: tuple = (), streaming: bool = False) -> dict[str, Any]:
    return {
        "plan": CATALYST + "analysis.UnresolvedRelation",
        "args": [list(parts), list(options), streaming],
        "also": [],
    }


def delta(path: str, **changes: Any) -> dict[str, Any]:
    index = "org.apache.spark.sql.delta.files.TahoeLogFileIndex"
    return {
        "relation": "x.HadoopFsRelation",
        "index": index,
        "path": path,
        "scheme": "file",
        "version": 3,
        "streaming": False,
    } | changes


def rule_of(tree: Any) -> str | None:
    try:
        guard.check_parsed(tree, SCHEMAS)
    except StatementRefused as refused:
        return refused.rule
    return None


def analyzed_rule_of(tree: Any) -> str | None:
    try:
        guard.check_analyzed(tree, Path("/h/warehouse"), SCHEMAS)
    except StatementRefused as refused:
        return refused.rule
    return None


@pytest.mark.parametrize("parts", [("tpch", "nation"), ("TPCH", "Nation"), ("nation",), ("results", "top_10")])
def test_tables_of_declared_schemas_may_be_named(parts: tuple[str, ...]) -> None:
    assert rule_of(plan("Project", [], relation(*parts))) is None


@pytest.mark.parametrize(
    "named",
    [
        relation("text", "/etc/passwd"), relation("delta", "/h/tables/x"), relation("spark_catalog", "tpch", "nation"),
        relation("other", "nation"), relation("tpch", "nation@v1"), relation("tpch", "n\u0430tion"), relation("tpch", "\u017f"),
        relation("tpch", "nation", options=("header",)), relation("tpch", "nation", streaming=True), relation("`x`"), relation(""),
    ],
)  # fmt: skip
def test_everything_else_that_is_read_from_is_refused(named: dict[str, Any]) -> None:
    assert rule_of(plan("Project", [], named)) == "sql.relation"


def test_a_name_of_the_statement_itself_may_be_any_word() -> None:
    definition = {"value": "scala.Tuple3", "args": ["Größe", plan("Project", [], relation("tpch", "nation")), None]}
    tree = {
        "plan": LOGICAL + "UnresolvedWith",
        "args": [plan("Project", [], relation("größe")), [definition], False],
        "also": [],
    }

    assert rule_of(tree) is None
    definition["args"][0] = "another"
    assert rule_of(tree) == "sql.relation"
    definition["args"][0] = "größe"
    tree["args"][2] = True
    assert rule_of(tree) == "sql.clause"


@pytest.mark.parametrize(
    "hidden",
    [
        lambda bad: plan("Project", [expression("expressions.Alias", bad)], relation("nation")),
        lambda bad: plan("Filter", expression("expressions.Exists", bad), relation("nation")),
        lambda bad: plan("Project", [{"value": "scala.Tuple2", "args": ["x", [[bad]]]}], relation("nation")),
        lambda bad: plan("Project", [], relation("nation")) | {"also": [bad]},
        lambda bad: plan("Project", [None, 1, "x", [None, {"value": "scala.Tuple2", "args": [bad]}]]),
    ],
)
def test_it_is_found_wherever_it_hides(hidden: Any) -> None:
    assert rule_of(hidden(plan("DropTable"))) == "sql.statement_class"
    assert rule_of(hidden(relation("text", "/x"))) == "sql.relation"
    assert rule_of(hidden(expression("analysis.UnresolvedFunction", ["java_method"], []))) == "sql.function"
    assert rule_of(hidden({"leaf": "some.Lambda"})) == "sql.expression"
    assert rule_of(hidden({"node": "some.OtherTree", "args": [], "also": []})) == "sql.expression"


@pytest.mark.parametrize(
    "name", ["java_method", "JAVA_METHOD", "reflect", "my_udf", "rand", "now", "\u0455um", "\uff33UM", ""]
)
def test_functions_outside_the_list_are_refused(name: str) -> None:
    assert rule_of(plan("Project", [expression("analysis.UnresolvedFunction", [name], [])])) == "sql.function"


def test_listed_functions_are_allowed_in_any_case_but_not_through_a_schema() -> None:
    assert rule_of(plan("Project", [expression("analysis.UnresolvedFunction", ["SuM"], [])])) is None
    assert rule_of(plan("Project", [expression("analysis.UnresolvedFunction", ["tpch", "sum"], [])])) == "sql.function"


def test_a_class_of_the_same_name_elsewhere_is_another_class() -> None:
    assert rule_of({"plan": "evil.Project", "args": [], "also": []}) == "sql.statement_class"
    assert rule_of(plan("Project", [{"expression": "evil.Literal", "args": [], "also": []}])) == "sql.expression"


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ("CreateTableAsSelect", "create"), ("DropTable", "drop"), ("InsertIntoStatement", "insert"), ("MergeIntoTable", "merge"),
        ("DeleteFromTable", "delete"), ("Call", "call"), ("SetVariable", "set"), ("SetCatalogAndNamespace", "use"),
        ("ScriptTransformation", "select transform"), ("CompoundBody", "begin"), ("AddColumns", "alter"), ("Nonsense", "nonsense"),
    ],
)  # fmt: skip
def test_a_refused_statement_is_named(node: str, said: str) -> None:
    with pytest.raises(StatementRefused) as refused:
        guard.check_parsed(plan(node), SCHEMAS)

    assert refused.value.rule == "sql.statement_class"
    assert refused.value.reason.startswith(said)


def test_resolved_tables_are_returned_with_their_versions() -> None:
    tree = plan(
        "Project", [], plan("Join", delta("/h/warehouse/tpch/orders"), delta("/h/warehouse/results/a", version=0))
    )

    assert guard.check_analyzed(tree, Path("/h/warehouse"), SCHEMAS) == {"results.a": 0, "tpch.orders": 3}


@pytest.mark.parametrize(
    "resolved",
    [
        delta("/h/tables/agent_messages"), delta("/h/warehouse/../keys/x"), delta("/h/warehouse/tpch"),
        delta("/h/warehouse/other/x"),
        delta("/h/warehouse/tpch/x/y"), delta("/h/warehouse/tpch/X"), delta("/h/warehouse/tpch/x", scheme="http"),
        delta("/h/warehouse/tpch/x", index="x.InMemoryFileIndex"), delta("/h/warehouse/tpch/x", streaming=True),
        {"relation": "x.JDBCRelation", "streaming": False},
    ],
)  # fmt: skip
def test_what_a_name_resolves_to_must_be_a_delta_table_of_the_lakehouse(resolved: dict[str, Any]) -> None:
    assert analyzed_rule_of(plan("Project", [], resolved)) == "sql.relation"


def test_the_resolved_plan_is_held_to_a_list_too() -> None:
    assert analyzed_rule_of(plan("View", [])) == "sql.statement_class"
    assert analyzed_rule_of(plan("Project", [expression("expressions.CallMethodViaReflection")])) == "sql.expression"
    assert analyzed_rule_of(plan("Project", [{"expression": "evil.Udf", "args": []}])) == "sql.expression"
    assert analyzed_rule_of(plan("Project", [{"node": "some.Tree", "args": []}])) == "sql.expression"
    assert analyzed_rule_of(plan("Project", [expression("expressions.Literal")])) is None


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("", "sql.empty"),
        (" \n", "sql.empty"),
        ("x" * 60_000, "sql.too_long"),
        ("a\0b", "sql.syntax"),
        ("(" * 101, "sql.too_deep"),
    ],
)
def test_text_that_is_no_statement(sql: str, rule: str) -> None:
    with pytest.raises(StatementRefused) as refused:
        guard.check_text(sql)

    assert refused.value.rule == rule


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("SELECT 1; SELECT 2", "sql.multiple_statements"), ("SELECT ';' ;\n-- x\nDROP x", "sql.multiple_statements"),
        ("SELEC 1;", "sql.syntax"), ("SELEC ';' x", "sql.syntax"), ("SELEC 1 -- ; x", "sql.syntax"),
        ("SELEC /* ; x */", "sql.syntax"),
    ],
)  # fmt: skip
def test_what_does_not_parse_is_told_apart(sql: str, rule: str) -> None:
    assert guard.unparsable(sql, "Syntax error.").rule == rule
