import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from workers.adapters.sandbox.protocol import cell, encode, error_document, error_from
from workers.ports import StatementFailed, StatementRefused


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None), (True, True), (3, 3), ("x", "x"), (1.5, 1.5), (float("nan"), "nan"), (float("-inf"), "-inf"),
        (Decimal("1.50"), "1.50"), (Decimal("1E+3"), "1000"), (Decimal("0E-8"), "0.00000000"), (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00+00:00"), (timedelta(minutes=1), 60.0), (b"\0\xff", "AP8="),
        ([Decimal("1")], ["1"]), ((1, None), [1, None]), ({1: Decimal("2")}, {"1": "2"}), (1j, "1j"),
    ],
)  # fmt: skip
def test_a_value_becomes_json(value: Any, shown: Any) -> None:
    assert cell(value) == shown
    json.dumps(cell(value), allow_nan=False)


def test_one_document_is_one_line() -> None:
    assert encode({"text": "a\nb"}).count(b"\n") == 1


def test_errors_arrive_as_what_they_were() -> None:
    refused = error_from(json.loads(encode(error_document(StatementRefused("sql.x", "because")))))
    failed = error_from(json.loads(encode(error_document(StatementFailed("no table")))))

    assert isinstance(refused, StatementRefused)
    assert (refused.rule, refused.reason) == ("sql.x", "because")
    assert isinstance(failed, StatementFailed)
    assert str(failed) == "no table"
