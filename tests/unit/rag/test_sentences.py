from __future__ import annotations

from workers.rag.sentences import SHORT_LIST, quotable


def test_a_paragraph_is_its_sentences():
    assert quotable("Sales are `SUM(a. B)`. Tax is\nnot included! Is it?  No.") == [
        "Sales are `SUM(a. B)`.",
        "Tax is not included!",
        "Is it?",
        "No.",
    ]


def test_a_number_and_an_abbreviation_end_no_sentence():
    assert quotable("From 0.00 to 0.10, e.g. Friday, i.e. The end.") == [
        "From 0.00 to 0.10, e.g. Friday, i.e. The end."
    ]


def test_a_short_list_belongs_to_what_introduces_it():
    assert quotable("Read this. The segments are:\n\n- BUILDING\n- MACHINERY\n\nMore.") == [
        "Read this.",
        "The segments are: BUILDING; MACHINERY.",
        "More.",
    ]


def test_items_that_are_sentences_keep_their_ends():
    assert quotable("Two things:\n1. It runs.\n2) It ends.") == ["Two things: It runs. It ends."]


def test_a_long_list_is_quoted_item_by_item():
    item = "word " * SHORT_LIST
    assert quotable(f"All of it:\n\n* {item}\n* short\n  and wrapped") == [
        "All of it:",
        item.strip(),
        "short and wrapped",
    ]


def test_an_introduction_without_a_list_stands_alone():
    assert quotable("As follows:\n\nText.") == ["As follows:", "Text."]
    assert quotable("As follows:") == ["As follows:"]


def test_marks_go_and_words_stay():
    assert quotable("See **the** [guide](https://example.org/a).\n\n```sql\nSELECT 1\n```") == [
        "See the guide.",
        "SELECT 1",
    ]
    assert quotable("") == []
