"""A wrong YAML is refused on load, with the place of the mistake."""

from __future__ import annotations

import pytest
import yaml

from tests.unit.semantic.conftest import MODEL
from workers.adapters.semantic import BadModel, SemanticLayer


@pytest.fixture
def content():
    return yaml.safe_load(MODEL.read_text(encoding="utf-8"))


def load(content):
    return SemanticLayer.load(yaml.safe_dump(content))


def test_a_model_loads_from_text_as_from_a_path(content, layer):
    assert load(content).canonical("sales by region") == layer.canonical("sales by region")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not YAML"),
        ("- 1", "must be a YAML mapping"),
        ("", "must be a YAML mapping"),
        ("name: x", "Field required"),
    ],
)
def test_text_that_is_no_model_is_refused(text, message):
    with pytest.raises(BadModel, match=message):
        SemanticLayer.load(text)


def test_a_measure_with_broken_sql_is_named(content):
    content["measures"]["sales"]["at"]["lineitem"] = "SUM((l.l_quantity"
    with pytest.raises(BadModel, match="measure sales: cannot parse"):
        load(content)


def test_a_measure_over_a_table_its_base_does_not_reach_is_named(content):
    content["measures"]["sales"]["at"] = {"orders": "SUM(l.l_extendedprice)"}
    with pytest.raises(BadModel, match=r"measure sales: 'l.l_extendedprice' cannot be reached from 'orders'"):
        load(content)


@pytest.mark.parametrize(
    ("section", "name", "field", "value"),
    [
        ("dimensions", "customer", "node", "nowhere"),
        ("dimensions", "customer", "count", "nothing"),
        ("families", "nation", "members", ["nobody"]),
        ("ratios", "average_sales_per_customer", "over", "nothing"),
        ("attributes", "discount", "node", "nowhere"),
        ("dates", "order_date", "node", "nowhere"),
    ],
)
def test_a_name_that_is_not_declared_is_named(section, name, field, value, content):
    content[section][name][field] = value
    with pytest.raises(BadModel, match="is not declared"):
        load(content)


def test_an_unknown_field_is_named(content):
    content["measures"]["sales"]["formula"] = "x"
    with pytest.raises(BadModel, match=r"measures.sales.formula"):
        load(content)


def test_a_new_word_is_only_a_line_of_yaml(content):
    content["measures"]["sales"]["words"].append("takings")
    content["values"]["nation"]["GERMANY"].append("deutschland")
    changed = load(content)
    assert changed.canonical("takings in Deutschland by region") == changed.canonical("sales in Germany by region")
