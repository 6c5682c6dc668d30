"""The explanation: what a generated statement computes, from which tables, and what was assumed, in plain sentences."""

from __future__ import annotations

from workers.adapters.semantic.meaning import PeriodAsk, RowLimitAsk, ValueAsk
from workers.adapters.semantic.model import Model
from workers.adapters.semantic.planner import Column, Filter, Plan
from workers.adapters.semantic.render import number_text


def explain(model: Model, plan: Plan, path: tuple[str, ...]) -> str:
    """Measure definitions, groups, filters, period, join path and defaults."""
    meaning = plan.meaning
    parts = [_definitions(model, plan) or f"Lists each {_column(model, plan.entity)} once"]
    columns = [*plan.groups, *([plan.entity] if plan.entity and plan.measures else [])]
    if meaning.shape == "count":
        parts.append(f"counting the {_column(model, plan.entity)}s that pass the limit")
    elif meaning.rank:
        order = "highest" if meaning.rank.descending else "lowest"
        within = f" within each {' and '.join(_column(model, c) for c in plan.groups)}" if plan.groups else ""
        size = meaning.rank.size
        noun = _column(model, plan.entity)
        rows = (
            f"the {noun} with the {order} value"
            if size == 1
            else f"the {size} with the {order} value, one row per {noun}"
        )
        parts.append(f"{rows}{within}; those without matching rows are left out, ties go by key")
    elif columns:
        parts.append("per " + " and ".join(_column(model, c) for c in columns))
        if any(c.dimension and model.dimensions[c.dimension].node != plan.base for c in columns):
            parts.append("those without matching rows are left out")
    if meaning.shape in ("share", "part"):
        parts.append("share_of_total is a fraction of 1")
    if meaning.shape == "growth":
        parts.append("growth is the change from the period before as a fraction of it")
    for limit in meaning.total_limits:
        parts.append(f"only where {limit.measure.text} {_limit(limit.limit)}")
    conditions = [_condition(model, f) for f in plan.filters]
    if conditions:
        parts.append("where " + " and ".join(conditions))
    if plan.numerator:
        parts.append("the part is where " + _condition(model, plan.numerator))
    sentence = "; ".join(parts)
    how = f"Computed from {path[0]}" + (f" joined to {', '.join(path[1:])}" if len(path) > 1 else "")
    notes = f"; {'; '.join(plan.notes)}" if plan.notes else ""
    return f"{sentence[0].upper()}{sentence[1:]}. {how}{notes}."


def _definitions(model: Model, plan: Plan) -> str:
    found = []
    for name, divisor in dict.fromkeys((*plan.measures, *plan.limits)):
        text = model.measures[name].means
        found.append(text if divisor is None else f"{text}, divided by {model.measures[divisor].words[0]}")
    return " and ".join(found)


def _column(model: Model, column: Column | None) -> str:
    if column is None:
        return "row"
    if column.grain:
        return f"{column.grain} of {model.dates[str(column.date)].words[0]}"
    dimension = model.dimensions[str(column.dimension)]
    return dimension.words[0] if dimension.words else dimension.column


def _limit(limit) -> str:
    numbers = " and ".join(number_text(n) + ("%" if limit.percent else "") for n in limit.numbers)
    return f"{limit.sign} {numbers}"


def _condition(model: Model, condition: Filter) -> str:
    ask = condition.ask
    if isinstance(ask, ValueAsk):
        joined = " or ".join(ask.values)
        return f"{_column(model, Column(dimension=condition.target))} is {'not ' if ask.negated else ''}{joined}"
    if isinstance(ask, RowLimitAsk):
        return f"{condition.target.replace('_', ' ')} {_limit(ask.limit)}"
    if isinstance(ask, PeriodAsk):
        spans = [span.label if span.grain == "open" else f"in {span.label}" for span in ask.spans]
        return f"{model.dates[condition.target].words[0]} is {' or '.join(spans)}"
    return ""
