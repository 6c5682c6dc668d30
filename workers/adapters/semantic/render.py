"""Rendering: a plan becomes one SELECT as a sqlglot tree; it takes text from the model only, never from a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import sqlglot
from sqlglot import exp

from workers.adapters.semantic.meaning import Limit, PeriodAsk, ValueAsk
from workers.adapters.semantic.model import Model
from workers.adapters.semantic.planner import Column, Filter, Plan

#: Digits after the point of shares, growth rates and averages.
RATE_DIGITS = 4
MONEY_DIGITS = 2


@dataclass
class Rendered:
    tree: exp.Select
    columns: tuple[str, ...]
    tables: tuple[str, ...]
    path: tuple[str, ...]


def _parse(sql: str) -> exp.Expression:
    return sqlglot.parse_one(sql, dialect="spark")


def _named(tree: exp.Expression, name: str) -> exp.Expression:
    return exp.alias_(tree, name)


class Renderer:
    """Builds one statement. Collects the nodes it touches, and joins exactly those at the end."""

    def __init__(self, model: Model, plan: Plan) -> None:
        self.model = model
        self.plan = plan
        self.nodes: set[str] = {plan.base}

    def render(self) -> Rendered:
        shape = self.plan.meaning.shape
        build = {
            "share": self._share,
            "part": self._part,
            "growth": self._growth,
            "count": self._count,
            "list": self._list,
        }.get(shape, self._table)
        tree, columns = build()
        tables = {self.model.nodes[node].table for node in self._joined()}
        return Rendered(tree, tuple(columns), tuple(sorted(tables)), tuple(self._joined()))

    # -- small parts ----------------------------------------------------------------------------------------------

    def _column(self, node: str, name: str) -> exp.Column:
        self.nodes.add(node)
        return exp.column(name, table=self.model.nodes[node].alias)

    def _expression(self, measure: tuple[str, str | None]) -> exp.Expression:
        name, divisor = measure
        tree = self._at_base(name)
        if divisor is None:
            return tree
        by = exp.Nullif(this=self._at_base(divisor), expression=exp.Literal.number(0))
        return exp.func("ROUND", exp.Div(this=tree, expression=by), exp.Literal.number(MONEY_DIGITS))

    def _at_base(self, name: str) -> exp.Expression:
        tree = _parse(self.model.measures[name].at[self.plan.base])
        aliases = {node.alias: key for key, node in self.model.nodes.items()}
        self.nodes |= {aliases[column.table] for column in tree.find_all(exp.Column)}
        return tree

    def _name(self, measure: tuple[str, str | None]) -> str:
        name, divisor = measure
        if divisor is None:
            return name
        return next(key for key, r in self.model.ratios.items() if (r.over, r.by) == (name, divisor))

    def _date(self, role: str) -> exp.Column:
        return self._column(self.model.dates[role].node, self.model.dates[role].column)

    def _grain(self, column: Column) -> exp.Expression:
        day = self._date(str(column.date)).sql(dialect="spark")
        if column.grain == "year":
            return _parse(f"YEAR({day})")
        if column.grain == "quarter":
            return _parse(f"CONCAT(CAST(YEAR({day}) AS STRING), '-Q', CAST(QUARTER({day}) AS STRING))")
        return _parse(f"DATE_FORMAT({day}, 'yyyy-MM')")

    def _period_number(self, column: Column) -> exp.Expression:
        """A number that grows by one from period to period, to see gaps."""
        day = self._date(str(column.date)).sql(dialect="spark")
        return _parse(
            {
                "year": f"YEAR({day})",
                "quarter": f"YEAR({day}) * 4 + QUARTER({day})",
                "month": f"YEAR({day}) * 12 + MONTH({day})",
            }[str(column.grain)]
        )

    def _output(self, column: Column) -> list[tuple[str, exp.Expression]]:
        """What is shown of a group: its label, and its key where the label may repeat."""
        if column.grain:
            prefix = "" if column.date == self.model.default_date else f"{self.model.dates[str(column.date)].prefix}_"
            return [(f"{prefix}{column.grain}", self._grain(column))]
        dimension = self.model.dimensions[str(column.dimension)]
        shown = [(dimension.column, self._column(dimension.node, dimension.label))]
        if dimension.show_key:
            shown.insert(0, (dimension.show_key, self._column(dimension.node, dimension.key[0])))
        return shown

    def _keys(self, column: Column) -> list[exp.Expression]:
        if column.grain:
            return [self._grain(column)]
        dimension = self.model.dimensions[str(column.dimension)]
        return [self._column(dimension.node, key) for key in dimension.key]

    def _conditions(self) -> list[exp.Expression]:
        return [self._condition(f) for f in sorted(self.plan.filters, key=lambda f: (f.target, repr(f.ask)))]

    def _condition(self, condition: Filter) -> exp.Expression:
        ask = condition.ask
        if isinstance(ask, ValueAsk):
            dimension = self.model.dimensions[condition.target]
            column = self._column(dimension.node, dimension.label)
            literals = [exp.Literal.string(value) for value in sorted(ask.values)]
            if len(literals) == 1:
                return (exp.NEQ if ask.negated else exp.EQ)(this=column, expression=literals[0])
            found = exp.In(this=column, expressions=literals)
            return exp.Not(this=found) if ask.negated else found
        if isinstance(ask, PeriodAsk):
            spans = sorted(ask.spans, key=lambda s: (s.start or date.min, s.end or date.max))
            parts = [self._between_days(condition.target, span.start, span.end) for span in spans]
            return parts[0] if len(parts) == 1 else exp.paren(exp.or_(*(exp.paren(part) for part in parts)))
        attribute = self.model.attributes[condition.target]
        return self._limit(self._column(attribute.node, attribute.column), ask.limit)

    def _between_days(self, role: str, start: date | None, end: date | None) -> exp.Expression:
        parts: list[exp.Expression] = []
        if start:
            parts.append(
                exp.GTE(this=self._date(role), expression=exp.cast(exp.Literal.string(start.isoformat()), "date"))
            )
        if end:
            parts.append(
                exp.LT(this=self._date(role), expression=exp.cast(exp.Literal.string(end.isoformat()), "date"))
            )
        return exp.and_(*parts)

    def _limit(self, value: exp.Expression, limit: Limit) -> exp.Expression:
        numbers = [exp.Literal.number(format(n / 100 if limit.percent else n, "f")) for n in limit.numbers]
        if limit.sign == "between":
            return exp.Between(this=value, low=numbers[0], high=numbers[1])
        kind = {">": exp.GT, ">=": exp.GTE, "<": exp.LT, "<=": exp.LTE, "=": exp.EQ}[limit.sign]
        return kind(this=value, expression=numbers[0])

    def _joined(self) -> list[str]:
        """The base and every node on the way to one that is used, in the order of the joins."""
        order = [self.plan.base]
        paths = self.model.reach(self.plan.base)
        for node in sorted(self.nodes, key=lambda n: (len(paths[n]), n)):
            for join in paths[node]:
                if join.target not in order:
                    order.append(join.target)
        return order

    def _from(self, tree: exp.Select) -> exp.Select:
        nodes = self.model.nodes
        base = nodes[self.plan.base]
        tree = tree.from_(exp.to_table(base.table, alias=base.alias))
        paths = self.model.reach(self.plan.base)
        for node in self._joined()[1:]:
            join = paths[node][-1]
            on = exp.and_(
                *(
                    exp.EQ(
                        this=exp.column(left, table=nodes[join.source].alias),
                        expression=exp.column(right, table=nodes[node].alias),
                    )
                    for left, right in join.keys.items()
                )
            )
            tree = tree.join(exp.to_table(nodes[node].table, alias=nodes[node].alias), on=on)
        return tree

    # -- statements -----------------------------------------------------------------------------------------------

    def _grouped(
        self,
        columns: list[Column],
        measures: list[tuple[str, exp.Expression]],
        extra: Sequence[tuple[str, exp.Expression]] = (),
    ) -> exp.Select:
        """SELECT groups, measures FROM base and joins WHERE filters GROUP BY keys."""
        outputs = [pair for column in columns for pair in self._output(column)]
        keys = [key for column in columns for key in self._keys(column)]
        conditions = self._conditions()
        tree = exp.select(*(_named(e, name) for name, e in (*outputs, *extra, *measures)))
        tree = self._from(tree)
        if conditions:
            tree = tree.where(*conditions)
        seen: dict[str, exp.Expression] = {}
        for key in (*keys, *(e for _, e in outputs), *(e for _, e in extra)):
            seen.setdefault(key.sql(), key.copy())
        if seen:
            tree = tree.group_by(*seen.values())
        return tree

    def _measured(self) -> list[tuple[str, exp.Expression]]:
        return [(self._name(m), self._expression(m)) for m in self.plan.measures]

    def _names(self, columns: list[Column]) -> list[str]:
        return [name for column in columns for name, _ in self._output(column)]

    def _order(self, columns: list[Column], first: str, descending: bool = True) -> list[exp.Expression]:
        keys = [exp.Ordered(this=key, desc=False, nulls_first=True) for column in columns for key in self._keys(column)]
        return [exp.Ordered(this=exp.column(first), desc=descending, nulls_first=not descending), *keys]

    def _table(self) -> tuple[exp.Select, list[str]]:
        plan = self.plan
        rank = plan.meaning.rank
        columns = [*plan.groups, *([plan.entity] if plan.entity else [])]
        measures = self._measured()
        limits = [(self._name(m), self._expression(m)) for m in plan.limits]
        measures += [pair for pair in limits if pair[0] not in {name for name, _ in measures}]
        if rank and plan.groups:
            return self._ranked_in_groups(columns, measures)
        tree = self._grouped(columns, measures)
        names = self._names(columns) + [name for name, _ in measures]
        for limit, measure in zip(plan.meaning.total_limits, plan.limits, strict=True):
            tree = tree.having(self._limit(self._expression(measure), limit.limit))
        first = measures[0][0]
        if rank:
            tree = tree.order_by(*self._order(columns, first, rank.descending)).limit(rank.size or 1)
        elif any(column.grain for column in columns):
            columns_in_time = sorted(columns, key=lambda c: c.grain is None)
            tree = tree.order_by(
                *(exp.Ordered(this=key, nulls_first=True) for column in columns_in_time for key in self._keys(column))
            )
        elif columns:
            tree = tree.order_by(*self._order(columns, first))
        return tree, names

    def _ranked_in_groups(
        self, columns: list[Column], measures: list[tuple[str, exp.Expression]]
    ) -> tuple[exp.Select, list[str]]:
        """The first N rows of each group, by a row number; ties go by key."""
        plan = self.plan
        rank = plan.meaning.rank
        assert rank is not None
        names = self._names(columns) + [name for name, _ in measures]
        keys = [(f"group_key_{n}", key) for n, key in enumerate((k for c in plan.groups for k in self._keys(c)), 1)]
        entity_keys = [(f"key_{n}", key) for n, key in enumerate(self._keys(plan.entity), 1)]
        inner = self._grouped(columns, measures, [*keys, *entity_keys])
        for limit, measure in zip(plan.meaning.total_limits, plan.limits, strict=True):
            inner = inner.having(self._limit(self._expression(measure), limit.limit))
        order = [exp.Ordered(this=exp.column(measures[0][0]), desc=rank.descending, nulls_first=not rank.descending)]
        order += [exp.Ordered(this=exp.column(name), nulls_first=True) for name, _ in entity_keys]
        window = exp.Window(
            this=exp.RowNumber(),
            partition_by=[exp.column(name) for name, _ in keys],
            order=exp.Order(expressions=order),
        )
        numbered = exp.select("*", _named(window, "rank_in_group")).from_(inner.subquery("grouped"))
        names.append("rank_in_group")
        tree = exp.select(*names).from_(numbered.subquery("ranked"))
        tree = tree.where(exp.LTE(this=exp.column("rank_in_group"), expression=exp.Literal.number(rank.size or 1)))
        tree = tree.order_by(
            *(exp.Ordered(this=exp.column(name), nulls_first=True) for name, _ in keys),
            exp.Ordered(this=exp.column("rank_in_group"), nulls_first=True),
        )
        return tree, names

    def _share(self) -> tuple[exp.Select, list[str]]:
        columns = list(self.plan.groups)
        name, expression = self._measured()[0]
        keys = [(f"key_{n}", key) for n, key in enumerate((k for c in columns for k in self._keys(c)), 1)]
        inner = self._grouped(columns, [(name, expression)], keys)
        total = exp.Window(this=exp.Sum(this=exp.column(name)))
        share = self._rate(exp.column(name), total)
        names = [*self._names(columns), name, "share_of_total"]
        tree = exp.select(*names[:-1], _named(share, "share_of_total")).from_(inner.subquery("grouped"))
        if any(c.grain for c in columns):
            return tree.order_by(*(exp.Ordered(this=exp.column(k), nulls_first=True) for k, _ in keys)), names
        order = [exp.Ordered(this=exp.column(name), desc=True, nulls_first=False)]
        return tree.order_by(*order, *(exp.Ordered(this=exp.column(k), nulls_first=True) for k, _ in keys)), names

    def _rate(self, part: exp.Expression, whole: exp.Expression) -> exp.Expression:
        by = exp.Nullif(this=whole, expression=exp.Literal.number(0))
        return exp.func("ROUND", exp.Div(this=part, expression=by), exp.Literal.number(RATE_DIGITS))

    def _part(self) -> tuple[exp.Select, list[str]]:
        """One value's share of a total: the same aggregate with and without the condition."""
        name, expression = self._measured()[0]
        assert self.plan.numerator is not None
        condition = self._condition(self.plan.numerator)
        part = expression.copy().transform(
            lambda node: (
                exp.Filter(this=node.copy(), expression=exp.Where(this=condition.copy()))
                if isinstance(node, exp.AggFunc)
                else node
            )
        )
        names = [f"{name}_of_part", f"{name}_in_total", "share_of_total"]
        part = exp.func("COALESCE", part, exp.Literal.number(0))
        outputs = [(names[0], part), (names[1], expression), (names[2], self._rate(part.copy(), expression.copy()))]
        return self._grouped([], outputs), names

    def _growth(self) -> tuple[exp.Select, list[str]]:
        """Each period beside the one before it; a gap in the periods gives NULL, not the period before the gap."""
        plan = self.plan
        assert plan.entity is not None
        columns = [plan.entity, *plan.groups]
        name, expression = self._measured()[0]
        keys = [(f"key_{n}", key) for n, key in enumerate((k for c in plan.groups for k in self._keys(c)), 1)]
        inner = self._grouped(
            columns, [(name, expression)], [("period_number", self._period_number(plan.entity)), *keys]
        )

        def before(column: str) -> exp.Expression:
            order = exp.Order(expressions=[exp.Ordered(this=exp.column("period_number"), nulls_first=True)])
            return exp.Window(
                this=exp.Lag(this=exp.column(column)), partition_by=[exp.column(k) for k, _ in keys], order=order
            )

        follows = exp.EQ(
            this=before("period_number"),
            expression=exp.Sub(this=exp.column("period_number"), expression=exp.Literal.number(1)),
        )
        previous = exp.Case().when(follows, before(name))
        with_previous = exp.select("*", _named(previous, f"previous_{name}")).from_(inner.subquery("grouped"))
        change = exp.paren(exp.Sub(this=exp.column(name), expression=exp.column(f"previous_{name}")))
        names = [*self._names(columns), name, f"previous_{name}", "growth"]
        tree = exp.select(*names[:-1], _named(self._rate(change, exp.column(f"previous_{name}")), "growth")).from_(
            with_previous.subquery("compared")
        )
        return tree.order_by(
            *(exp.Ordered(this=exp.column(k), nulls_first=True) for k in ("period_number", *(k for k, _ in keys)))
        ), names

    def _count(self) -> tuple[exp.Select, list[str]]:
        """How many groups pass the limits on their totals."""
        plan = self.plan
        assert plan.entity is not None
        keys = [(f"key_{n}", key) for n, key in enumerate(self._keys(plan.entity), 1)]
        inner = self._grouped([], [], keys)
        for limit, measure in zip(plan.meaning.total_limits, plan.limits, strict=True):
            inner = inner.having(self._limit(self._expression(measure), limit.limit))
        inner = self._rejoin(inner)
        name = f"{plan.entity.dimension}_count"
        return exp.select(_named(exp.Count(this=exp.Star()), name)).from_(inner.subquery("counted")), [name]

    def _rejoin(self, tree: exp.Select) -> exp.Select:
        """A limit may have touched nodes after FROM was built."""
        tree.set("joins", None)
        return self._from(tree)

    def _list(self) -> tuple[exp.Select, list[str]]:
        plan = self.plan
        assert plan.entity is not None
        shown = []
        for limit in plan.meaning.row_limits:
            attribute = self.model.attributes[limit.attributes[0]]
            if attribute.node == self.model.dimensions[str(plan.entity.dimension)].node:
                shown.append((limit.attributes[0], self._column(attribute.node, attribute.column)))
        tree = self._grouped([plan.entity], [], shown)
        tree = tree.order_by(*(exp.Ordered(this=key, nulls_first=True) for key in self._keys(plan.entity)))
        return tree, [*self._names([plan.entity]), *(name for name, _ in shown)]


def number_text(value: Decimal) -> str:
    return format(value, ",f")
