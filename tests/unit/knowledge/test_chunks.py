from __future__ import annotations

from workers.adapters.knowledge.chunks import WORDS, chunks_of
from workers.adapters.knowledge.documents import parse


def chunks(body: str) -> list[tuple[int, str, str]]:
    return [(one.chunk, one.title, one.text) for one in chunks_of(parse("a", f"---\ntitle: Sales\n---\n{body}"))]


def test_a_heading_begins_a_chunk_and_is_its_title():
    assert chunks("# Sales\n\nOne.\n\n## Tax ##\n\nTwo.\n\n### Rates\nThree.") == [
        (1, "Sales", "One."),
        (2, "Sales: Tax", "Two."),
        (3, "Sales: Rates", "Three."),
    ]


def test_short_paragraphs_stay_together_and_long_ones_are_parted():
    fifty = "word " * 49 + "end."
    found = chunks("\n\n".join([fifty] * 5))
    assert [len(text.split()) for _, _, text in found] == [100, 100, 50]


def test_a_paragraph_that_is_too_long_is_cut_between_sentences():
    found = chunks(" ".join("This sentence has exactly six words." for _ in range(50)))
    assert all(len(text.split()) <= WORDS and text.endswith("words.") for _, _, text in found)
    assert " ".join(text for _, _, text in found).count("sentence") == 50


def test_a_list_that_is_too_long_is_cut_between_items():
    found = chunks("\n".join(f"- item {n} of this list is here" for n in range(40)))
    assert len(found) > 1
    assert all(line.startswith("- item") for _, _, text in found for line in text.split("\n"))


def test_what_introduces_a_list_stays_with_it():
    long = "word " * 109 + "end."
    found = chunks(f"{long}\n\nThe segments of the market are these five:\n\n- BUILDING\n- MACHINERY")
    [chunk] = [text for _, _, text in found if "these five" in text]
    assert chunk.endswith("these five:\n\n- BUILDING\n- MACHINERY")


def test_a_fence_is_neither_a_heading_nor_cut():
    found = chunks("Before.\n\n```sql\n# no heading\n\nSELECT 1\n```\n\nAfter.")
    assert found == [(1, "Sales", "Before.\n\n```sql\n# no heading\n\nSELECT 1\n```\n\nAfter.")]


def test_a_heading_without_text_gives_no_chunk():
    assert chunks("# Empty\n\n# Full\n\nText.") == [(1, "Sales: Full", "Text.")]
