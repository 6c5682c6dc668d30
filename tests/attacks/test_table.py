"""The table is as large as it has to be, every class proves that its attacks can succeed, and the document shows all of it."""

from __future__ import annotations

import pytest

from tests.attacks.document import DOCUMENT, written
from tests.attacks.everything import by_class
from tests.attacks.table import ATTACKS, CLASSES


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_has_enough_cases_and_one_that_succeeds_without_its_guard(name: str) -> None:
    cases = by_class()[name]

    assert len(cases) >= 12
    assert [one for one in cases if one.without]


def test_there_are_enough_of_them_and_each_has_a_name_of_its_own() -> None:
    by_class()

    assert len(ATTACKS) >= 150
    assert len({one.id for one in ATTACKS}) == len(ATTACKS)
    assert {one.attack_class for one in ATTACKS} == CLASSES.keys()


def test_the_document_shows_this_table() -> None:
    """`python -m tests.attacks.document` writes it."""
    assert written(DOCUMENT.read_text()) == DOCUMENT.read_text()
