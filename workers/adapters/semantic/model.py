"""The semantic model: what a YAML file declares about tables, measures, dimensions and values, checked on load."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import sqlglot
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from sqlglot import exp


class BadModel(ValueError):
    """The YAML of a semantic model is wrong; the message says where. Remedy: correct that entry."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Node(_Part):
    """A table in one role."""

    table: str = Field(pattern=r"^\w+\.\w+$")
    alias: str = Field(pattern=r"^[a-z]\w*$")
    key: tuple[str, ...] = Field(min_length=1)


class Join(_Part):
    """A join from many to one."""

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    keys: dict[str, str] = Field(min_length=1)


class Measure(_Part):
    """A number, with its expression at every node where it is right."""

    at: dict[str, str] = Field(min_length=1)
    words: tuple[str, ...] = Field(min_length=1)
    shared_words: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    about: str | None = None
    counts: str | None = None
    means: str
    through: str | None = None
    additive: bool = False
    unclear_date: bool = False
    #: Whether 'best' means most; where it does not, 'best' and 'worst' are refused.
    more_is_better: bool = True
    #: 'how many' may be asked of it although it is a sum.
    countable: bool = False
    #: Words that in a limit may mean one row as well as the total: 'customers with order value above 400000'.
    per_row_words: tuple[str, ...] = ()


class Ratio(_Part):
    over: str
    per: str
    by: str


class Pattern(_Part):
    """Values too many to list; `like` is matched against lower-case text and its groups fill `value`."""

    like: str
    value: str


class Dimension(_Part):
    node: str
    key: tuple[str, ...] = Field(min_length=1)
    label: str
    column: str
    words: tuple[str, ...]
    values: str | None = None
    pattern: Pattern | None = None
    count: str | None = None
    rank_by: str | None = None
    amount: str | None = None
    show_key: str | None = None
    group: bool = True
    #: Its values are something that happened on a day of its own: 'returned in 1994'.
    event: bool = False


class Family(_Part):
    words: tuple[str, ...] = Field(min_length=1)
    members: tuple[str, ...] = Field(min_length=1)
    note: str


class Attribute(_Part):
    node: str
    column: str
    words: tuple[str, ...] = Field(min_length=1)
    fraction: bool = False


class DateRole(_Part):
    """A date a question may mean, and the days the data covers."""

    node: str
    column: str
    first: date
    last: date
    words: tuple[str, ...]
    verbs: tuple[str, ...]
    prefix: str


class Unclear(_Part):
    words: tuple[str, ...] = Field(min_length=1)
    hint: str


class Defaults(_Part):
    rank_by: str
    rank_size: int = Field(gt=0)
    over_time: str = Field(pattern="^(year|quarter|month)$")


class Model(_Part):
    """Everything the layer knows about one lakehouse."""

    name: str
    bases: tuple[str, ...]
    nodes: dict[str, Node]
    joins: tuple[Join, ...]
    spellings: dict[str, str] = {}
    exact_spellings: dict[str, str] = {}
    measures: dict[str, Measure]
    ratios: dict[str, Ratio] = {}
    defaults: Defaults
    dimensions: dict[str, Dimension]
    families: dict[str, Family] = {}
    owners: dict[str, str] = {}
    attributes: dict[str, Attribute] = {}
    dates: dict[str, DateRole]
    default_date: str
    values: dict[str, dict[str, list[Any]]] = {}
    unclear: tuple[Unclear, ...] = ()

    @model_validator(mode="after")
    def _names_exist(self) -> Model:
        def known(kind: str, names: Any, where: Mapping[str, Any]) -> None:
            for name in names:
                if name is not None and name not in where:
                    raise ValueError(f"{kind} names '{name}', which is not declared")

        known("bases", self.bases, self.nodes)
        for join in self.joins:
            known("a join", (join.source, join.target), self.nodes)
        for name, measure in self.measures.items():
            known(f"measure {name}", measure.at, self.nodes)
            known(f"measure {name}", (measure.about, measure.counts), self.dimensions)
            for base, sql in measure.at.items():
                self._check_expression(name, base, sql)
        for name, ratio in self.ratios.items():
            known(f"ratio {name}", (ratio.over, ratio.by), self.measures)
            known(f"ratio {name}", (ratio.per,), self.dimensions)
        for name, dimension in self.dimensions.items():
            known(f"dimension {name}", (dimension.node,), self.nodes)
            known(f"dimension {name}", (dimension.count, dimension.rank_by), self.measures)
            known(f"dimension {name}", (dimension.values,), self.values)
            known(f"dimension {name}", (dimension.amount,), self.attributes)
            if dimension.pattern:
                re.compile(dimension.pattern.like)
        for name, family in self.families.items():
            known(f"family {name}", family.members, self.dimensions)
        known("owners", (*self.owners, *self.owners.values()), self.dimensions)
        for name, part in (*self.attributes.items(), *self.dates.items()):
            known(name, (part.node,), self.nodes)
        known("defaults", (self.defaults.rank_by,), self.measures)
        known("default_date", (self.default_date,), self.dates)
        return self

    def _check_expression(self, name: str, base: str, sql: str) -> None:
        try:
            tree = sqlglot.parse_one(sql, dialect="spark")
        except sqlglot.errors.ParseError as error:
            raise ValueError(f"measure {name}: cannot parse '{sql}'") from error
        for column in tree.find_all(exp.Column):
            if column.table not in {self.nodes[node].alias for node in self.reach(base)}:
                raise ValueError(f"measure {name}: '{column.sql()}' cannot be reached from '{base}'")

    @cached_property
    def _reach(self) -> dict[str, dict[str, tuple[Join, ...]]]:
        return {}

    def reach(self, base: str) -> Mapping[str, tuple[Join, ...]]:
        """Nodes reachable from `base` by many-to-one joins, each with its shortest path."""
        if base not in self._reach:
            paths: dict[str, tuple[Join, ...]] = {base: ()}
            frontier = [base]
            while frontier:
                frontier_next = []
                for node in frontier:
                    for join in self.joins:
                        if join.source == node and join.target not in paths:
                            paths[join.target] = (*paths[node], join)
                            frontier_next.append(join.target)
                frontier = frontier_next
            self._reach[base] = paths
        return self._reach[base]

    def value_words(self, name: str) -> dict[str, tuple[str, ...]]:
        """Stored values of a dictionary with the words a person may use for each."""
        entries = self.values[name]
        if set(entries) == {"combine"}:
            combined = (" ".join(parts) for parts in product(*entries["combine"]))
            return {value: (value.lower(),) for value in combined}
        return {value: (value.lower(), *(str(word).lower() for word in words)) for value, words in entries.items()}


#: The same in C takes a ninth of the time, where PyYAML was built with it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_model(source: str | Path) -> Model:
    """Read a model from a path or from YAML text; raises BadModel with the place of the mistake."""
    text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
    try:
        content = yaml.load(text, _LOADER)
    except yaml.YAMLError as error:
        raise BadModel(f"the semantic model is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise BadModel("the semantic model must be a YAML mapping")
    try:
        return Model.model_validate(content)
    except ValidationError as error:
        places = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'model'}: {e['msg']}" for e in error.errors()[:5])
        raise BadModel(f"the semantic model is wrong: {places}") from error
