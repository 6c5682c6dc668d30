"""Random words never crash the layer, and whatever SQL comes out of them runs."""

# ruff: noqa: E501  (bags of words)
from __future__ import annotations

import random

import pytest
import sqlglot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workers.ports import CouldNotMap

BAG = """top bottom best 10 3 five sales revenue quantity orders customers customer nation nations region supplier suppliers part parts brand
Brand#23 ship mode AIR France German Asia Europe BUILDING urgent returned by per in each for of from to with more than at least between and or , 1995 1996
Q3 March year month quarter since before last years share percentage growth over average order value number how many which has the highest
lowest excluding except not compare versus vs orders line items account balance discount 5% 100000 1 million list show me segment priority
shipped ordered placed bought who that have are is comes save it table was in ' " ; - # 's profit count distinct"""
WORDS = BAG.split()
soup = st.lists(st.sampled_from(WORDS), min_size=1, max_size=14).map(" ".join)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=soup)
def test_word_soup_is_refused_or_runs(question, layer, run_spark_sql):
    _check(question, layer, run_spark_sql)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=st.text(max_size=80))
def test_any_text_is_refused_or_runs(question, layer, run_spark_sql):
    _check(question, layer, run_spark_sql)


STARTS = ["sales", "how many orders", "top 3 customers", "which nation has the highest quantity", "list customers", "share of sales", "customers with more than 20 orders", "compare sales", "number of suppliers", "year over year sales growth"]  # fmt: skip
CLAUSES = ["by region", "by year", "in 1995", "in France", "excluding Asia", "in each nation", "for the BUILDING segment", "by ship mode", "since 1994", "with ship mode AIR", "of German suppliers", "1995 vs 1996", "France versus Germany", "by quantity", "over 100000", "shipped in 1996", "of Brand#23 or Brand#12", "with more than 2 line items", "by supplier nation and month", "by sales"]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_clauses_thrown_together_are_refused_or_run(seed, layer, run_spark_sql):
    chance = random.Random(seed)
    for _ in range(60):
        _check(" ".join([chance.choice(STARTS), *chance.sample(CLAUSES, chance.randint(1, 4))]), layer, run_spark_sql)


def _check(question, layer, run_spark_sql):
    try:
        written = layer.write(question)
    except CouldNotMap as error:
        refusal = error
    else:
        refusal = None
    if refusal is not None:
        assert refusal.words
        assert all(refusal.words)
        return
    tree = sqlglot.parse_one(written.sql, read="spark")
    assert isinstance(tree, sqlglot.exp.Select)
    run_spark_sql(written.sql)
