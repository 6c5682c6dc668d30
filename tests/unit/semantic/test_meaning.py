"""Paraphrases share one canonical text; questions that differ in meaning do not."""

from __future__ import annotations

import pytest

GROUPS = [
    [
        "What are the top 10 customers by sales?",
        "generate SQL for the top 10 customers by revenue",
        "top ten customers",
        "Top 10 clients by turnover",
        "who are our 10 best customers?",
        "Show me the top 10 customers, please",
        "Execute SQL to find top 10 customers and save to table",
        "top customers",
        "give me the 10 customers with the highest sales",
        "the top 10 customers in terms of revenue and store the result in table tpch.best",
    ],
    [
        "sales by region",
        "revenue per region",
        "total sales for each region",
        "What is the turnover in each region?",
        "sales split by customer region",
        "Compare sales by region",
    ],
    [
        "sales in 1995",
        "1995 sales",
        "What were total sales in 1995?",
        "how much revenue did we make in the year 1995",
        "sales ordered in 1995",
        "In 1995, what was the revenue?",
    ],
    [
        "how many orders in 1996",
        "number of orders in 1996",
        "order count for 1996",
        "count of orders placed in 1996",
        "how many orders were placed in 1996?",
    ],
    [
        "which nation has the highest sales",
        "top nation by sales",
        "the best country by revenue",
        "What is the nation with the most sales?",
    ],
    ["sales in France and Germany", "revenue in Germany or France", "sales for France, Germany"],
    ["sales excluding Asia by nation", "sales by country outside Asia", "revenue by nation except Asia"],
    [
        "customers with more than 20 orders",
        "which customers have placed more than 20 orders",
        "list customers who placed more than 20 orders",
        "customers with over 20 orders",
    ],
    ["compare sales in 1995 and 1996", "sales in 1995 versus 1996", "1995 vs 1996 sales"],
    ["monthly sales in 1995", "sales by month in 1995", "sales trend in 1995 by month", "sales over time in 1995"],
    ["sales in the last 3 years of the data", "sales between 1996 and 1998", "sales over the last three years"],
    [
        "number of German customers",
        "how many customers are in Germany",
        "how many customers from Germany",
        "customer count for customer nation Germany",
    ],
    ["share of sales by region", "sales share by region", "percentage of revenue by region"],
]
DIFFERENT = [
    ("sales in 1995", "sales in 1996"),
    ("sales in 1995", "gross sales in 1995"),
    ("top 10 customers", "bottom 10 customers"),
    ("top 10 customers", "top 5 customers"),
    ("top 10 customers", "top 10 customers in 1995"),
    ("how many customers", "how many active customers"),
    ("how many customers in Germany", "how many customers in Germany placed orders in 1997"),
    ("sales by nation", "sales by supplier nation"),
    ("sales in France", "sales excluding France"),
    ("sales since 1995", "sales after 1995"),
    ("quantity in 1995", "quantity shipped in 1995"),
    ("orders over 100000", "how many orders over 100000"),
    ("customers with more than 20 orders", "customers with at least 20 orders"),
    ("top 3 customers", "top 3 customers in each region"),
    ("sales in France and Germany", "sales for France versus Germany"),
]


@pytest.mark.parametrize("group", GROUPS, ids=[group[0] for group in GROUPS])
def test_paraphrases_mean_the_same(group, layer):
    assert {question: layer.canonical(question) for question in group} == dict.fromkeys(
        group, layer.canonical(group[0])
    )


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_questions_mean_different_things(one, other, layer):
    assert layer.canonical(one) != layer.canonical(other)
