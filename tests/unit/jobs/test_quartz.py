"""Quartz expressions mean here what they mean there: by dates worked out by hand, and by counting minutes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.quartz import BadExpression, trigger

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday


def times(expression: str, count: int, zone: str = "UTC", after: datetime = NEW_YEAR) -> list[datetime]:
    found, rule = [], trigger(expression, ZoneInfo(zone))
    while len(found) < count and (due := rule.get_next_fire_time(None, after)) is not None:
        found.append(due.astimezone(UTC))
        after = due + timedelta(microseconds=1)
    return found


def said(expression: str, count: int = 3, **how: str) -> list[str]:
    return [f"{one:%a %Y-%m-%d %H:%M:%S}" for one in times(expression, count, **how)]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 0/15 * * * ?", ["Thu 2026-01-01 00:00:00", "Thu 2026-01-01 00:15:00", "Thu 2026-01-01 00:30:00"]),
        ("30 /20 3 * * ?", ["Thu 2026-01-01 03:00:30", "Thu 2026-01-01 03:20:30", "Thu 2026-01-01 03:40:30"]),
        ("0 0 2 ? * 1", ["Sun 2026-01-04 02:00:00", "Sun 2026-01-11 02:00:00", "Sun 2026-01-18 02:00:00"]),
        ("0 0 2 ? * MON-FRI", ["Thu 2026-01-01 02:00:00", "Fri 2026-01-02 02:00:00", "Mon 2026-01-05 02:00:00"]),
        ("0 0 2 ? * fri-mon", ["Fri 2026-01-02 02:00:00", "Sat 2026-01-03 02:00:00", "Sun 2026-01-04 02:00:00"]),
        ("0 0 2 ? * 6#3", ["Fri 2026-01-16 02:00:00", "Fri 2026-02-20 02:00:00", "Fri 2026-03-20 02:00:00"]),
        ("0 0 2 ? * SUN#5", ["Sun 2026-03-29 02:00:00", "Sun 2026-05-31 02:00:00", "Sun 2026-08-30 02:00:00"]),
        ("0 0 2 ? * 6L", ["Fri 2026-01-30 02:00:00", "Fri 2026-02-27 02:00:00", "Fri 2026-03-27 02:00:00"]),
        ("0 0 2 ? * L", ["Sat 2026-01-03 02:00:00", "Sat 2026-01-10 02:00:00", "Sat 2026-01-17 02:00:00"]),
        ("0 0 2 L * ?", ["Sat 2026-01-31 02:00:00", "Sat 2026-02-28 02:00:00", "Tue 2026-03-31 02:00:00"]),
        ("0 0 22-1 1 * ?", ["Thu 2026-01-01 00:00:00", "Thu 2026-01-01 01:00:00", "Thu 2026-01-01 22:00:00"]),
        (
            "0 0 0 1 JAN,7 ? 2027-2028",
            ["Fri 2027-01-01 00:00:00", "Thu 2027-07-01 00:00:00", "Sat 2028-01-01 00:00:00"],
        ),
        ("0 0 0 1 1 ? 2020", []),
    ],
)
def test_what_an_expression_means(expression: str, expected: list[str]) -> None:
    assert said(expression) == expected


def test_the_clock_is_that_of_the_zone_and_moves_with_it() -> None:
    summer = datetime(2026, 3, 27, 12, tzinfo=UTC)
    found = times("0 30 6 * * ?", 4, "Europe/Berlin", summer)
    assert [f"{one:%d %H:%M}" for one in found] == ["28 05:30", "29 04:30", "30 04:30", "31 04:30"]


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("0 2 * * *", "has 5 fields; Quartz has 6 or 7, seconds first"),
        ("0 0 2 * * *", "of day of month and day of week exactly one is ?"),
        ("0 0 2 ? * ?", "of day of month and day of week exactly one is ?"),
        ("0 60 * * * ?", "minutes: '60' is not from 0 to 59"),
        ("0 0 0 ? * 0", "day of week: '0' is not from 1 to 7, or SUN to SAT"),
        ("0 0 0 ? * MON#6", "a month has no 6th"),
        ("0 0 0 15W * ?", "day of month: '15W' cannot be followed here"),
        ("0 0 0 L-3 * ?", "day of month: 'L-3' cannot be followed here"),
        ("0 0/0 * * * ?", "minutes: a step of 0 is not from 1 to 60"),
        ("0 0/99 * * * ?", "minutes: a step of 99"),
        ("0 ,5 * * * ?", "minutes: '' is not understood"),
        ("0 *-5 * * * ?", "minutes: .* is not understood"),
        ("0 0 0 1 1 ? 2028-2027", "year: '2028-2027' goes backwards"),
        ("0 0 0 1 MAI ?", "month: 'MAI' is not from 1 to 12, or JAN to DEC"),
        ("", "has 0 fields"),
    ],
)
def test_what_cannot_be_followed_is_refused(expression: str, reason: str) -> None:
    with pytest.raises(BadExpression, match=reason.replace("?", r"\?")):
        trigger(expression, ZoneInfo("UTC"))


@st.composite
def fields(draw: st.DrawFn, low: int, high: int) -> tuple[str, set[int]]:
    """A field and the values it means."""
    text, values = [], set()
    for _ in range(draw(st.integers(1, 3))):
        first, last, step = (draw(st.integers(low, high)) for _ in range(3))
        everything = range(low, high + 1)
        match draw(st.sampled_from(["one", "range", "step", "range and step"])):
            case "one":
                text.append(str(first))
                values.add(first)
            case "range":
                text.append(f"{first}-{last}")
                values |= {v for v in everything if (first <= v <= last if first <= last else v >= first or v <= last)}
            case "step":
                step = max(1, step)
                text.append(f"{first}/{step}")
                values |= {v for v in everything if v >= first and (v - first) % step == 0}
            case _:
                step, first, last = max(1, step), min(first, last), max(first, last)
                text.append(f"{first}-{last}/{step}")
                values |= {v for v in everything if first <= v <= last and (v - first) % step == 0}
    return ",".join(text), values


@given(fields(0, 59), fields(0, 23), fields(1, 7))
@settings(max_examples=12, deadline=None)
def test_no_minute_is_missed_and_none_is_added(
    minutes: tuple[str, set[int]], hours: tuple[str, set[int]], weekdays: tuple[str, set[int]]
) -> None:
    every = (NEW_YEAR + timedelta(minutes=n) for n in range(8 * 24 * 60))
    expected = [
        one
        for one in every
        if one.minute in minutes[1] and one.hour in hours[1] and one.isoweekday() % 7 + 1 in weekdays[1]
    ][:25]
    assert times(f"0 {minutes[0]} {hours[0]} ? * {weekdays[0]}", len(expected)) == expected
