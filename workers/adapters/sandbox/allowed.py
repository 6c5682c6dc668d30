"""What a query may consist of: explicit sets of Spark's plan nodes, expressions, values and functions; all else is refused."""

from __future__ import annotations

_CATALYST = "org.apache.spark.sql.catalyst."


def _classes(package: str, names: str) -> frozenset[str]:
    return frozenset(f"{_CATALYST}{package}.{name}" for name in names.split())


UNRESOLVED_RELATION = _CATALYST + "analysis.UnresolvedRelation"
UNRESOLVED_FUNCTION = _CATALYST + "analysis.UnresolvedFunction"
WITH = _CATALYST + "plans.logical.UnresolvedWith"
SUBQUERY_ALIAS = _CATALYST + "plans.logical.SubqueryAlias"
DELETE_ACTION = _CATALYST + "plans.logical.DeleteAction"
#: How the parser says that a relation is written; nobody can write this name as an option of their own without being refused.
PRIVILEGES = "__required_write_privileges__"
DELTA_INDEX = "org.apache.spark.sql.delta.files.TahoeLogFileIndex"

PARSED_PLANS = _classes(
    "plans.logical",
    """Aggregate Distinct Except Filter GlobalLimit Intersect Join LateralJoin LimitAll LocalLimit LocalRelation Offset
    OneRowRelation OneRowRelation$ Pivot Project Sort SubqueryAlias Union UnresolvedWith Unpivot WithWindowDefinition""",
) | _classes(
    "analysis",
    "UnresolvedHaving UnresolvedInlineTable UnresolvedQualify UnresolvedRelation UnresolvedSubqueryColumnAliases",
)

ANALYZED_PLANS = _classes(
    "plans.logical",
    """Aggregate CTERelationDef CTERelationRef Distinct Except Expand Filter GlobalLimit Intersect Join LateralJoin LocalLimit
    LocalRelation Offset OneRowRelation OneRowRelation$ Project Sort SubqueryAlias Union Window WithCTE""",
)

PARSED_EXPRESSIONS = (
    _classes(
        "expressions",
        """Add Alias And AttributeReference CaseWhen Cast Coalesce Concat CreateNamedStruct Cube CurrentRow$ Divide EqualNullSafe
    EqualTo Exists GreaterThan GreaterThanOrEqual GroupingSets ILike In InSubquery IntegralDivide IsNotNull IsNull
    LateralSubquery LessThan LessThanOrEqual Like LikeAll LikeAny ListQuery Literal Multiply Not NotLikeAll NotLikeAny Or
    RLike Remainder Rollup ScalarSubquery SortOrder SpecifiedWindowFrame Subtract UnaryMinus UnaryPositive
    UnboundedFollowing$ UnboundedPreceding$ UnresolvedWindowExpression UnspecifiedFrame$ WindowExpression
    WindowSpecDefinition""",
    )
    | _classes(
        "expressions.aggregate",
        "AggregateExpression AnyValue First Last",
    )
    | _classes(
        "analysis",
        """NamedExpression UnresolvedAlias UnresolvedAttribute UnresolvedExtractValue UnresolvedFunction UnresolvedOrdinal
    UnresolvedStar UnresolvedStarExceptOrReplace""",
    )
)

#: Arguments of nodes that are neither plans nor expressions.
VALUES = (
    frozenset(
        {
            "[B",
            "java.lang.Byte",
            "java.lang.Character",
            "java.lang.Double",
            "java.lang.Float",
            "java.lang.Short",
            "java.math.BigDecimal",
            "java.util.UUID",
            "scala.Enumeration$Val",
            "scala.Tuple2",
            "scala.Tuple3",
            "org.apache.spark.sql.types.Decimal",
            "org.apache.spark.sql.types.Metadata",
            "org.apache.spark.unsafe.types.CalendarInterval",
            "org.apache.spark.unsafe.types.UTF8String",
            _CATALYST + "AliasIdentifier",
        }
    )
    | _classes(
        "plans",
        "Cross$ FullOuter$ Inner$ LeftAnti$ LeftOuter$ LeftSemi$ NaturalJoin RightOuter$ UsingJoin",
    )
    | _classes(
        "plans.logical",
        "JoinHint",
    )
    | _classes(
        "expressions",
        """Ascending$ Descending$ ExprId GenericInternalRow NullsFirst$ NullsLast$ NumericEvalContext RangeFrame$ RowFrame$
    WindowSpecReference""",
    )
    | _classes(
        "expressions.aggregate",
        "Complete$",
    )
)

#: The statements that may change a table, as parsed. Each may only be the root of the plan.
WRITES = {
    _CATALYST + "plans.logical." + name: verb
    for name, verb in (
        ("InsertIntoStatement", "insert"),
        ("UpdateTable", "update"),
        ("DeleteFromTable", "delete"),
        ("MergeIntoTable", "merge"),
        ("CreateTableAsSelect", "create"),
        ("ReplaceTableAsSelect", "replace"),
        ("TruncateTable", "truncate"),
        ("DropTable", "drop"),
        ("AddColumns", "alter"),
    )
}

#: What they consist of besides a query's expressions.
WRITE_EXPRESSIONS = {
    "update": _classes("plans.logical", "Assignment"),
    "merge": _classes(
        "plans.logical", "Assignment DeleteAction InsertAction InsertStarAction UpdateAction UpdateStarAction"
    ),
}

#: The root of the resolved plan, by what was parsed.
_DELTA = "org.apache.spark.sql.delta.commands."
ANALYZED_WRITES = {
    "insert": _classes("plans.logical", "AppendData OverwriteByExpression"),
    "update": frozenset({_DELTA + "UpdateCommand"}),
    "delete": frozenset({_DELTA + "DeleteCommand"}),
    "merge": frozenset({_DELTA + "MergeIntoCommand"}),
    "truncate": frozenset({_DELTA + "DeleteCommand"}),
    "alter": _classes("plans.logical", "AddColumns"),
}

#: What names the table that is written; the guard looks at where it lies.
ANALYZED_TARGETS = frozenset({"org.apache.spark.sql.execution.datasources.v2.DataSourceV2Relation"}) | _classes(
    "analysis", "ResolvedTable"
)

#: Delta's own check that a value fits the column it is written to.
_FITS = frozenset({"org.apache.spark.sql.delta.CheckOverflowInTableWrite"})

ANALYZED_WRITE_EXPRESSIONS = {
    "insert": _FITS,
    "update": _FITS,
    "merge": _FITS
    | _classes(
        "plans.logical",
        """DeltaMergeAction DeltaMergeIntoMatchedDeleteClause DeltaMergeIntoMatchedUpdateClause
    DeltaMergeIntoNotMatchedBySourceDeleteClause DeltaMergeIntoNotMatchedBySourceUpdateClause
    DeltaMergeIntoNotMatchedInsertClause""",
    ),
    "alter": _classes("plans.logical", "QualifiedColType"),
}

ONE_STATEMENT = "only one SELECT, INSERT, UPDATE, DELETE or MERGE may run: write that instead"

#: Plan nodes that deserve a better word than their class name.
PLAN_REFUSALS = {
    _CATALYST + "plans.logical.UnresolvedHint": ("sql.hint", "hints may not steer the engine: remove the /*+ ... */"),
    _CATALYST + "plans.logical.Sample": ("sql.clause", "TABLESAMPLE gives other rows each time: aggregate all of them"),
    _CATALYST + "plans.logical.Generate": (
        "sql.clause",
        "LATERAL VIEW multiplies rows without bound: join tables instead",
    ),
    _CATALYST + "plans.logical.RepartitionByExpression": (
        "sql.clause",
        "DISTRIBUTE BY and CLUSTER BY steer the engine: use ORDER BY",
    ),
    _CATALYST + "plans.logical.ScriptTransformation": (
        "sql.statement_class",
        f"select transform starts a program: {ONE_STATEMENT}",
    ),
    _CATALYST + "plans.logical.CompoundBody": ("sql.statement_class", f"begin ... end is a script: {ONE_STATEMENT}"),
    _CATALYST + "analysis.UnresolvedExecuteImmediate": (
        "sql.statement_class",
        f"execute immediate hides what runs: {ONE_STATEMENT}",
    ),
    _CATALYST + "analysis.PlanWithUnresolvedIdentifier": (
        "sql.relation",
        "IDENTIFIER(...) hides which table is read: write the table's name",
    ),
    _CATALYST + "analysis.UnresolvedTableValuedFunction": (
        "sql.relation",
        "table functions may not be read from: name tables as schema.table",
    ),
    _CATALYST + "analysis.NamedStreamingRelation": ("sql.relation", "a stream may not be read: name the table alone"),
    _CATALYST + "analysis.RelationTimeTravel": (
        "sql.relation",
        "an older version may not be asked for: a run reads the versions its dry run saw",
    ),
}

EXPRESSION_REFUSALS = {
    _CATALYST + "analysis.NamedParameter": ("sql.parameter", "parameter markers have no value here: write the value"),
    _CATALYST + "analysis.PosParameter": ("sql.parameter", "parameter markers have no value here: write the value"),
    _CATALYST + "analysis.ExpressionWithUnresolvedIdentifier": (
        "sql.expression",
        "IDENTIFIER(...) hides what is meant: write the name itself",
    ),
    _CATALYST + "analysis.UnresolvedGenerator": (
        "sql.function",
        "LATERAL VIEW multiplies rows without bound: join tables",
    ),
    _CATALYST + "expressions.LambdaFunction": (
        "sql.expression",
        "lambda functions may not run: aggregate over rows instead",
    ),
}

#: Statements whose class name starts with another word than the statement does.
STATEMENT_NAMES = {
    "SetCatalogAndNamespace": "use",
    "AddColumns": "alter",
    "DropColumns": "alter",
    "RenameColumn": "alter",
    "AlterColumns": "alter",
    "ReplaceColumns": "alter",
    "AddPartitions": "alter",
    "DropPartitions": "alter",
    "RenameTable": "alter",
    "SetTableProperties": "alter",
    "UnsetTableProperties": "alter",
    "SetTableLocation": "alter",
    "CreateVariable": "declare",
    "RecoverPartitions": "msck repair",
    "RepairTable": "msck repair",
}

#: A resolved expression comes from one of these packages, or is refused.
EXPRESSION_PACKAGES = ("org.apache.spark.sql.catalyst.expressions.",)

#: Resolved expressions that call other code, or tell about the session; also reached by bare words such as `current_user`.
FORBIDDEN_EXPRESSIONS = frozenset(
    [
        "CallMethodViaReflection",
        "TryReflect",
        "ScalaUDF",
        "PythonUDF",
        "PythonUDAF",
        "HiveSimpleUDF",
        "HiveGenericUDF",
        "ApplyFunctionExpression",
        "VariableReference",
        "CurrentUser",
        "CurrentDatabase",
        "CurrentCatalog",
        "CurrentTimeZone",
        "CurrentDate",
        "CurrentTime",
        "CurrentTimestamp",
        "CurrentTimestampLike",
        "CurrentBatchTimestamp",
        "Now",
        "LocalTimestamp",
        "InputFileName",
        "InputFileBlockStart",
        "InputFileBlockLength",
        "SparkVersion",
        "Rand",
        "Randn",
        "Uuid",
        "Shuffle",
        "RandStr",
        "Uniform",
        "MonotonicallyIncreasingID",
        "SparkPartitionID",
    ]
)

#: Functions whose value depends on when or by whom they are called.
VOLATILE_FUNCTIONS = frozenset(
    [
        "current_date",
        "current_time",
        "current_timestamp",
        "curdate",
        "now",
        "localtimestamp",
        "current_timezone",
        "current_user",
        "user",
        "session_user",
        "current_catalog",
        "current_database",
        "current_schema",
        "rand",
        "random",
        "randn",
        "randstr",
        "uniform",
        "uuid",
        "shuffle",
        "unix_timestamp",
        "monotonically_increasing_id",
        "spark_partition_id",
        "input_file_name",
        "input_file_block_start",
        "input_file_block_length",
        "version",
    ]
)

_AGGREGATES = """any any_value approx_count_distinct approx_percentile avg bool_and bool_or collect_list collect_set corr count
    count_if covar_pop covar_samp every first first_value grouping grouping_id kurtosis last last_value listagg max max_by mean
    median min min_by mode percentile percentile_approx percentile_cont percentile_disc regr_avgx regr_avgy regr_count
    regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy skewness some std stddev stddev_pop stddev_samp string_agg sum
    try_avg try_sum var_pop var_samp variance"""
_WINDOW = "cume_dist dense_rank lag lead nth_value ntile percent_rank rank row_number"
_MATHS = """abs acos asin atan atan2 bround cbrt ceil ceiling cos degrees div e exp expm1 floor greatest hypot least ln log log10
    log1p log2 mod negative pi pmod positive pow power radians rint round sign signum sin sqrt tan try_add try_divide try_mod
    try_multiply try_subtract width_bucket"""
_STRINGS = """ascii btrim char char_length character_length chr concat concat_ws contains endswith find_in_set format_number
    initcap instr lcase left len length levenshtein locate lower lpad ltrim octet_length overlay position regexp_count
    regexp_extract regexp_instr regexp_like regexp_replace regexp_substr replace reverse right rlike rpad rtrim soundex split_part
    startswith substr substring substring_index to_char to_number translate trim try_to_number ucase upper"""
_DATES = """add_months date date_add date_diff date_format date_from_unix_date date_part date_sub date_trunc dateadd datediff
    datepart day dayname dayofmonth dayofweek dayofyear extract from_unixtime hour last_day make_date make_dt_interval
    make_interval make_timestamp make_ym_interval minute month monthname months_between next_day quarter second timestamp
    timestampadd timestampdiff to_date to_timestamp to_unix_timestamp trunc try_to_date try_to_timestamp unix_date weekday
    weekofyear year"""
_CONDITIONS = """coalesce decode equal_null if ifnull iff isnan isnotnull isnull nanvl nullif nullifzero nvl nvl2 zeroifnull
    when between in like ilike not"""
_CASTS = "bigint binary boolean cast decimal double float int smallint string tinyint try_cast"

#: Deterministic, without side effects, and bounded in what they return for one row.
FUNCTIONS = frozenset(" ".join((_AGGREGATES, _WINDOW, _MATHS, _STRINGS, _DATES, _CONDITIONS, _CASTS)).split())
