from __future__ import annotations

import re

import pytest

from workers.ports import Passage
from workers.rag.answer import compose

DEFINITION = "Sales are defined as price less discount. They are reported by month. Nothing else matters here."
DISCOUNT = "The only discount that counts is the line discount. It is a fraction."
APPROVAL = "An approval takes a second person. The second person looks at the code."


def passage(document: str, text: str, score: float = 2.0, chunk: int = 1, title: str = "Notes") -> Passage:
    return Passage(document, chunk, title, text, score, "why")


def test_the_sentences_that_answer_come_with_their_sources():
    found = compose(
        "How are sales defined, and which discounts count?",
        [passage("sales", DISCOUNT, 3.0, 2), passage("sales", DEFINITION, 2.0, 1)],
    )
    assert found is not None
    assert found.text == (
        "Sales are defined as price less discount. [1] The only discount that counts is the line discount. [2]"
    )
    assert [one.chunk for one in found.cited] == [1, 2]
    assert found.missing == ()


def test_every_word_is_taken_from_the_passage_it_is_tied_to():
    passages = [passage("a", DISCOUNT, 3.0), passage("b", DEFINITION, 2.0), passage("c", APPROVAL, 1.0)]
    found = compose("How are sales defined? Which discount counts? Who looks at an approval?", passages)
    assert found is not None
    quoted = re.findall(r"(.+?) \[(\d+)\]\s*", found.text)
    assert len(quoted) >= 3
    for text, mark in quoted:
        assert text in found.cited[int(mark) - 1].text


def test_sources_that_are_not_quoted_are_not_cited():
    found = compose("Which discounts count?", [passage("a", DISCOUNT), passage("b", APPROVAL)])
    assert found is not None
    assert [one.document for one in found.cited] == ["a"]


def test_what_stands_twice_is_said_once():
    found = compose("Which discounts count?", [passage("a", DISCOUNT), passage("b", DISCOUNT)])
    assert found is not None
    assert found.text.count("The only discount") == 1


@pytest.mark.parametrize(
    "question",
    [
        "",
        "?",
        "what is it",
        "What does it mean?",
        "How do I bake bread?",
        "What is the discount of Acme?",
        "Which discount do unicorns get?",
    ],
)
def test_no_answer_is_better_than_a_wrong_one(question: str):
    assert compose(question, [passage("a", DISCOUNT), passage("b", DEFINITION)]) is None


def test_without_passages_there_is_no_answer():
    assert compose("Which discounts count?", []) is None


def test_a_part_without_an_answer_is_named():
    found = compose("Which discounts count, and how do I bake bread?", [passage("a", DISCOUNT)])
    assert found is not None
    assert found.text == "The only discount that counts is the line discount. [1]"
    assert found.missing == ("how do I bake bread?",)


def test_a_heading_helps_a_sentence_that_does_not_repeat_it():
    found = compose("How long is the return period?", [passage("a", "Thirty days is the period.", title="Returns")])
    assert found is not None
    assert found.text == "Thirty days is the period. [1]"


def test_scores_of_zero_are_no_trouble():
    assert compose("Which discounts count?", [passage("a", DISCOUNT, 0.0)]) is not None


def test_the_same_question_gets_the_same_answer_whatever_the_hash_seed():
    passages = [passage(name, f"{DISCOUNT} {DEFINITION} {APPROVAL}", chunk=n) for n, name in enumerate("abc", 1)]
    answers = {compose("sales discount approval person code month", passages) for _ in range(5)}
    assert len(answers) == 1
