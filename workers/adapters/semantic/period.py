"""Time in a question: years, quarters, months, halves, days and ranges of them become spans of days."""

from __future__ import annotations

from datetime import date, timedelta

from workers.adapters.semantic.meaning import PeriodAsk, Span
from workers.adapters.semantic.reader import VERSUS, Reader

_MONTH_NAMES = "january february march april may june july august september october november december"
_MONTHS = {"sept": 9} | {
    spelling: number for number, name in enumerate(_MONTH_NAMES.split(), 1) for spelling in (name, name[:3])
}
_QUARTERS = {
    "q1": 1,
    "q2": 2,
    "q3": 3,
    "q4": 4,
    "first quarter": 1,
    "second quarter": 2,
    "third quarter": 3,
    "fourth quarter": 4,
}
_HALVES = {"h1": 1, "h2": 2, "first half": 1, "second half": 2}
_PLACES = ("in", "during", "for", "of", "on", "over", "within", "throughout", "from", "across")


def _months(year: int, first: int, count: int, label: str, grain: str) -> Span:
    end = year * 12 + first - 1 + count
    return Span(date(year, first, 1), date(end // 12, end % 12 + 1, 1), label, grain)


def _read_year(reader: Reader) -> int | None:
    start = reader.pos
    reader.take("the calendar year", "the year", "calendar year", "year", "the years", "years")
    term = reader.term()
    if term and term.number and term.number.is_year:
        reader.pos += 1
        return int(term.number.number)
    reader.pos = start
    return None


def _read_of_year(reader: Reader) -> int | None:
    reader.take("of", "in", ",")
    return _read_year(reader)


def _last_year(reader: Reader) -> int:
    return reader.model.dates[reader.model.default_date].last.year


def _read_point(reader: Reader) -> Span | None:
    """One year, half, quarter, month or day."""
    start = reader.pos
    span = _read_day(reader) or _read_part(reader) or _read_whole_year(reader)
    if span is None:
        reader.pos = start
    return span


def _read_whole_year(reader: Reader) -> Span | None:
    if reader.take(
        "the last year of the data",
        "last year of the data",
        "the last year",
        "last year",
        "the latest year",
        "latest year",
    ):
        year = _last_year(reader)
        return Span(date(year, 1, 1), date(year + 1, 1, 1), f"{year} (the last year of the data)")
    year = _read_year(reader)
    if year is None:
        return None
    after = reader.word()
    if after in _QUARTERS:
        reader.pos += 1
        return _quarter(year, _QUARTERS[after])
    if after in _HALVES:
        reader.pos += 1
        return _half(year, _HALVES[after])
    return Span(date(year, 1, 1), date(year + 1, 1, 1), str(year))


def _quarter(year: int, quarter: int) -> Span:
    return _months(year, 3 * quarter - 2, 3, f"Q{quarter} {year}", "quarter")


def _half(year: int, half: int) -> Span:
    return _months(year, 6 * half - 5, 6, f"H{half} {year}", "half")


def _read_part(reader: Reader) -> Span | None:
    start = reader.pos
    reader.take("the")
    quarter = _QUARTERS.get(reader.take(*_QUARTERS) or "")
    if quarter is None and reader.take("quarter"):
        number = reader.read_number()
        quarter = int(number.number) if number and number.number in (1, 2, 3, 4) else None
    if quarter:
        year = _read_of_year(reader)
        return _quarter(year, quarter) if year else None
    half = _HALVES.get(reader.take(*_HALVES) or "")
    if half:
        year = _read_of_year(reader)
        return _half(year, half) if year else None
    month = _MONTHS.get(reader.word())
    if month:
        reader.pos += 1
        year = _read_of_year(reader)
        if year:
            return _months(year, month, 1, f"{year}-{month:02d}", "month")
    reader.pos = start
    return None


def _read_day(reader: Reader) -> Span | None:
    """'1995-03-15', 'March 15, 1995', '15 March 1995'."""
    start = reader.pos
    term = reader.term()
    day: date | None = None
    try:
        if term and term.tokens[0].kind == "date":
            reader.pos += 1
            day = date.fromisoformat(term.tokens[0].text)
        elif reader.word() in _MONTHS:
            month = _MONTHS[reader.word()]
            reader.pos += 1
            number = reader.read_number()
            if number and number.plain and not number.is_year:
                reader.take(",")
                year = _read_year(reader)
                day = date(year, month, int(number.number)) if year else None
        elif (
            term
            and term.number
            and term.number.plain
            and not term.number.is_year
            and (reader.word(1) in _MONTHS or reader.word(2) in _MONTHS)
        ):
            reader.pos += 1
            reader.take("of")
            month = _MONTHS.get(reader.word(), 0)
            reader.pos += 1
            year = _read_year(reader) if month else None
            day = date(year, month, int(term.number.number)) if year else None
    except (ValueError, OverflowError):
        day = None
    if day is None:
        reader.pos = start
        return None
    return Span(day, day + timedelta(days=1), day.isoformat(), "day")


def _read_range(reader: Reader) -> Span | None:
    """'between 1994 and 1996', 'from March to June 1996', '1994-1996': both ends belong to it."""
    start = reader.pos
    opening = reader.take("in the years between", "in between", "between", "from")
    first = _read_point(reader)
    bare = None
    if first is None and opening and reader.word() in _MONTHS:
        bare = _MONTHS[reader.word()]
        reader.pos += 1
    joins = ("and",) if opening and opening.endswith("between") else ("to", "through", "until", "till", "-")
    if (first or bare) and reader.take(*joins):
        reader.take("the end of")
        last = _read_point(reader)
        if last and bare and last.grain == "month":
            first = _months(last.start.year, bare, 1, f"{last.start.year}-{bare:02d}", "month")
        if first and last and first.grain == last.grain and first.start < last.start:
            return Span(first.start, last.end, f"{first.label} to {last.label}", first.grain)
    reader.pos = start
    return None


def _read_open(reader: Reader) -> Span | None:
    start = reader.pos
    said = reader.take("since", "after", "before", "from", "starting from", "starting in")
    span = _read_point(reader) if said else None
    if span and said == "from":
        span = span if reader.take("onwards", "on") else None
    elif span and said == "since":
        reader.take("onwards")
    if span is None:
        reader.pos = start
        return None
    if said == "before":
        return Span(None, span.start, f"before {span.label}", "open")
    if said == "after":
        return Span(span.end, None, f"after {span.label}", "open")
    return Span(span.start, None, f"since {span.label}", "open")


def _read_last_years(reader: Reader) -> Span | None:
    start = reader.pos
    reader.take(*_PLACES)
    reader.take("the")
    if reader.take("last", "past"):
        number = reader.read_number()
        if number and number.number == int(number.number) and 1 <= number.number <= 50 and reader.take("years", "year"):
            reader.take("of the available data", "of available data", "of the data", "of data", "in the data")
            last = _last_year(reader)
            first = last - int(number.number) + 1
            return Span(
                date(first, 1, 1),
                date(last + 1, 1, 1),
                f"{first} to {last} (the last {number.text} years of the data)",
                "years",
            )
    reader.pos = start
    return None


def read_period(reader: Reader) -> PeriodAsk | None:
    """A period with the date it is about: 'in 1995', 'shipped in Q3 1995', 'between 1994 and 1996', '1995 vs 1996'."""
    start = reader.pos
    role = _read_role(reader)
    found = _read_body(reader, start, role)
    if found is None:
        reader.pos = start
    return found


def _read_role(reader: Reader) -> str | None:
    """'shipped' or 'with a ship date' in front of a period says which date is meant."""
    start = reader.pos
    reader.take(
        "that were",
        "which were",
        "that was",
        "were",
        "was",
        "are",
        "who",
        "that",
        "being",
        "have been",
        "with",
        "where",
        "whose",
        "by",
    )
    reader.articles()
    verb = reader.word()
    for name, date_role in reader.model.dates.items():
        if verb and verb in date_role.verbs:
            reader.pos += 1
            return name
    sense = reader.sense("date")
    if sense:
        reader.pos += 1
        reader.take("is", "was")
        return sense.names[0]
    reader.pos = start
    return None


def _read_body(reader: Reader, start: int, role: str | None) -> PeriodAsk | None:
    for read in (_read_last_years, _read_open, _read_range):
        span = read(reader)
        if span:
            return PeriodAsk(reader.text(start), (span,), role)
    between = bool(reader.take("between"))
    if not between:
        # Not 'over' and not 'from': "orders over 1995" is an amount, "sales from 1995" may mean "since".
        reader.take("in", "during", "for", "of", "on", "within", "throughout")
    reader.take("both")
    first = _read_range(reader) or _read_point(reader)
    if first is None:
        return None
    spans = [first]
    joins: set[str] = set()
    while True:
        before = reader.pos
        comma = reader.take(",")
        join = reader.take("and", "or", *VERSUS) or comma
        if join is None:
            break
        reader.take("in", "during", "for")
        span = _read_point(reader)
        if span is None:
            reader.pos = before
            break
        spans.append(span)
        joins.add("versus" if join in VERSUS else join)
    joins.discard(",")
    if len(joins) > 1 or len({span.grain for span in spans}) > 1 or between:
        return None
    return PeriodAsk(
        reader.text(start), tuple(spans), role, joins.pop() if joins else ("and" if len(spans) > 1 else None)
    )
