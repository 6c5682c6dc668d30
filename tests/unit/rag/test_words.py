from __future__ import annotations

import pytest

from workers.rag.words import DECIDING, MOST_TERMS, ORDINARY, SHAPING, stems, terms


def weights(question: str) -> dict[str, float]:
    return {term.word: term.weight for term in terms(question)}


def test_small_words_and_endings_are_left_out():
    assert stems("How are the Discounts counted?") == ["discount", "count"]


def test_words_for_the_same_thing_are_the_same():
    assert stems("revenue") == stems("Turnover") == stems("sales") == stems("sale")
    assert stems("clients") == stems("customers")
    assert stems("definition") == stems("defined")
    assert stems("customer’s") == stems("customer's") == stems("customer")


def test_a_name_of_a_column_is_one_word():
    assert stems("`l_extendedprice` * (1 - l_discount)") == ["l_extendedpric", "1", "l_discount"]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is a grant?", {"grant": ORDINARY}),
        ("How are sales defined?", {"sales": ORDINARY, "defined": SHAPING}),
        ("What is the policy of Acme?", {"policy": DECIDING, "Acme": DECIDING}),
        ("What is the churn rate of customers?", {"churn": DECIDING, "rate": DECIDING, "customers": ORDINARY}),
        ("Is tax part of sales?", {"tax": ORDINARY, "sales": ORDINARY}),
        ("What does status P mean?", {"status": ORDINARY, "P": DECIDING, "mean": SHAPING}),
        ("Discounts? Which Discounts", {"Discounts": DECIDING}),
        ("Sales", {"Sales": ORDINARY}),
        ("WHAT IS TAX", {"TAX": ORDINARY}),
    ],
)
def test_what_hangs_on_each_word(question: str, expected: dict[str, float]):
    assert weights(question) == expected


@pytest.mark.parametrize("text", ["", " ", "?", "how is it", "I", "🙂", "x"])
def test_nothing_to_go_by(text: str):
    assert terms(text) == ()


def test_a_pasted_book_is_cut_short():
    assert len(terms(" ".join(f"word{n}" for n in range(20_000)))) == MOST_TERMS
