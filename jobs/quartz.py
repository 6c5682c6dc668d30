"""Quartz cron expressions, which Databricks schedules jobs by, as triggers of APScheduler.

The two differ in the numbers of weekdays (1 is Sunday there, 0 is Monday here), in steps, in names, and in ranges that go over the
end. So every field is written out as the values it means. What cannot be said here is refused, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
PLACES = ("1st", "2nd", "3rd", "4th", "5th")

_PART = re.compile(r"(?P<first>\*|\w+)?(?:-(?P<last>\w+))?(?:/(?P<step>\d+))?")


class BadExpression(ValueError):
    """No Quartz expression, or one that cannot be followed here."""


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    #: Names of the values, from `low` on.
    names: Sequence[str] = ()
    wraps: bool = True

    def values(self, text: str) -> str:
        """Those that a field of the expression means, for APScheduler. Raises BadExpression."""
        if text == "*":
            return "*"
        found = sorted({value for part in text.split(",") for value in self._part(part)})
        return ",".join(map(str, found))

    def _part(self, part: str) -> Sequence[int]:
        match = _PART.fullmatch(part)
        if not part or match is None or (match["first"] == "*" and match["last"]):
            raise BadExpression(f"{self.name}: {part!r} is not understood")
        every = match["first"] in (None, "*")
        first = self.low if every else self.value(match["first"])
        open_end = self.high if match["step"] or every else first
        last = open_end if match["last"] is None else self.value(match["last"])
        step = int(match["step"] or 1)
        if not 1 <= step <= self.high - self.low + 1:
            raise BadExpression(f"{self.name}: a step of {step} is not from 1 to {self.high - self.low + 1}")
        if last < first and not self.wraps:
            raise BadExpression(f"{self.name}: {part!r} goes backwards")
        if last < first:  # over the end: FRI-MON, 22-2
            last += self.high - self.low + 1
        return [self._wrapped(value) for value in range(first, last + 1, step)]

    def _wrapped(self, value: int) -> int:
        return value if value <= self.high else value - (self.high - self.low + 1)

    def value(self, text: str) -> int:
        if text.upper() in self.names:
            return self.low + self.names.index(text.upper())
        if text.isdecimal() and self.low <= int(text) <= self.high:
            return int(text)
        names = f", or {self.names[0]} to {self.names[-1]}" if self.names else ""
        raise BadExpression(f"{self.name}: {text!r} is not from {self.low} to {self.high}{names}")


_SECOND, _MINUTE, _HOUR = _Field("seconds", 0, 59), _Field("minutes", 0, 59), _Field("hours", 0, 23)
_DAY, _MONTH, _YEAR = (
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, MONTHS),
    _Field("year", 1970, 2099, wraps=False),
)
_WEEKDAY = _Field("day of week", 1, 7, WEEKDAYS)


def trigger(expression: str, zone: ZoneInfo) -> CronTrigger:
    """When a job with this expression is due. Raises BadExpression."""
    fields = expression.split()
    if len(fields) not in (6, 7):
        raise BadExpression(f"{expression!r} has {len(fields)} fields; Quartz has 6 or 7, seconds first")
    second, minute, hour, day, month, weekday = fields[:6]
    if (day == "?") == (weekday == "?"):
        raise BadExpression(f"{expression!r}: of day of month and day of week exactly one is ?")
    year = fields[6] if len(fields) == 7 else "*"
    days = {"day": _days(day)} if weekday == "?" else _weekdays(weekday)
    return CronTrigger(
        second=_SECOND.values(second),
        minute=_MINUTE.values(minute),
        hour=_HOUR.values(hour),
        month=_MONTH.values(month),
        year=_YEAR.values(year),
        timezone=zone,
        **days,
    )


def _days(text: str) -> str:
    """L is the last of the month. Raises BadExpression for the nearest working day, which APScheduler does not know."""
    if text.upper() == "L":
        return "last"
    if re.search(r"[LW]", text.upper()):
        raise BadExpression(f"day of month: {text!r} cannot be followed here; days, ranges, steps and L can")
    return _DAY.values(text)


def _weekdays(text: str) -> dict[str, str]:
    """6#3 is the third Friday, 6L the last; L alone is Saturday."""
    if match := re.fullmatch(r"(\w+)#(\d)", text):
        if not 1 <= int(match[2]) <= 5:
            raise BadExpression(f"day of week: {text!r}: a month has no {match[2]}th of them")
        return {"day": f"{PLACES[int(match[2]) - 1]} {_name(_WEEKDAY.value(match[1]))}"}
    if match := re.fullmatch(r"(\w+)L", text.upper()):
        return {"day": f"last {_name(_WEEKDAY.value(match[1]))}"}
    found = _WEEKDAY.values("SAT" if text.upper() == "L" else text)
    return {"day_of_week": found if found == "*" else ",".join(_name(int(one)) for one in found.split(","))}


def _name(number: int) -> str:
    return WEEKDAYS[number - 1].lower()
