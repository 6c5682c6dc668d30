"""Words of a question: splits text into tokens, reads numbers, and knows which words carry no meaning."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal

#: Longest question read, in characters. Nobody types more, and refusing at once keeps every later step cheap.
LONGEST_QUESTION = 2000

_TOKEN = re.compile(
    r"""
    (?P<date>\d{4}-\d{2}-\d{2}(?!\d))
  | (?P<number>[$]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:%|(?:k|m|mn|mio|bn|b)(?![^\W_]))?(?![\w#]))
  | (?P<code>[^\W\d_]+\#\d+(?!\w))
  | (?P<word>[^\W_]\.(?:[^\W_]\.)+|[^\W_]+(?:_\w+)?)
  | (?P<possessive>'s(?!\w))
  | (?P<sign>>=|<=|<>|!=|>|<|=)
  | (?P<mark>\S)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SCALES = {"k": 3, "thousand": 3, "m": 6, "mn": 6, "mio": 6, "million": 6, "millions": 6, "b": 9, "bn": 9, "billion": 9}
_ONES = (
    "one two three four five six seven eight nine ten "
    "eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_NUMBER_WORDS = {word: Decimal(n) for n, word in enumerate(_ONES.split(), 1)} | {
    word: Decimal(10 * n) for n, word in enumerate(_TENS.split(), 2)
}
#: Marks that end or separate clauses and never change a meaning where they stand.
_SILENT = set('?!.:"`()')


@dataclass(frozen=True)
class Token:
    """One word, number or mark; `text` is what was typed, `word` its plain lower-case form."""

    kind: str
    text: str
    word: str
    number: Decimal | None = None
    percent: bool = False
    money: bool = False
    plain: bool = False

    @property
    def is_year(self) -> bool:
        return self.plain and self.number is not None and 1900 <= self.number <= 2100


def tokens_of(text: str, exact: dict[str, str], spellings: dict[str, str]) -> list[Token]:
    """Split a question. Quotes and full stops disappear; every other mark stays and has to be understood."""
    text = (
        unicodedata.normalize("NFKC", text)
        .replace("\u2019", "'")
        .replace("\u2018", "'")
        .replace("\u201c", '"')
        .replace("\u201d", '"')
    )
    text = re.sub(r"[\u2010-\u2015]", "-", text)
    found: list[Token] = []
    for match in _TOKEN.finditer(text):
        kind, raw = str(match.lastgroup), match.group()
        if kind == "mark":
            if raw in _SILENT or (raw == "'" and _at_word_edge(text, match)):
                continue
            if raw == "-" and _joins_words(text, match):
                continue
        if kind == "number":
            found.append(_number(raw))
            continue
        word = exact.get(raw) or raw.lower()
        found.append(Token(kind, raw, spellings.get(word, word)))
    return _join_scales([part for token in found for part in _split(token)])


def _split(token: Token) -> list[Token]:
    """A spelling may stand for two words ('lineitems' for 'line items')."""
    if token.kind == "word" and " " in token.word:
        return [Token("word", token.text, word) for word in token.word.split()]
    return [token]


def _at_word_edge(text: str, match: re.Match[str]) -> bool:
    before = text[match.start() - 1] if match.start() else " "
    after = text[match.end()] if match.end() < len(text) else " "
    return not (before.isalnum() and after.isalnum())


def _joins_words(text: str, match: re.Match[str]) -> bool:
    """Between letters a hyphen is a spelling; between digits it is a range, and stays."""
    if match.start() == 0 or match.end() == len(text):
        return False
    before, after = text[match.start() - 1], text[match.end()]
    return before.isalnum() and after.isalnum() and not (before.isdigit() and after.isdigit())


def _number(raw: str) -> Token:
    body = raw.lstrip("$")
    digits = re.match(r"[\d,.]+", body).group()
    suffix = body[len(digits) :].lower()
    value = Decimal(digits.replace(",", ""))
    if suffix in _SCALES:
        value = value.scaleb(_SCALES[suffix])
    return Token(
        "number", raw, raw.lower(), value, percent=suffix == "%", money=raw.startswith("$"), plain=raw.isdigit()
    )


def _join_scales(tokens: list[Token]) -> list[Token]:
    """'1.5 million', 'ten', '5 percent': a number and the word that scales it become one token."""
    joined: list[Token] = []
    for token in tokens:
        last = joined[-1] if joined else None
        if token.kind == "word" and token.word in _NUMBER_WORDS:
            token = Token("number", token.text, token.word, _NUMBER_WORDS[token.word])
        elif last and last.number is not None and token.word in _SCALES and len(token.word) > 3:
            value = last.number.scaleb(_SCALES[token.word])
            joined[-1] = Token(
                "number", f"{last.text} {token.text}", f"{last.word} {token.word}", value, money=last.money
            )
            continue
        elif last and last.number is not None and token.word in ("percent", "dollars") and not last.percent:
            percent = token.word == "percent"
            joined[-1] = Token(
                "number", f"{last.text} {token.text}", last.word, last.number, percent=percent, money=not percent
            )
            continue
        joined.append(token)
    return joined


def is_plain(value: Decimal) -> bool:
    """Whether a number can be written in SQL as it is: finite and of a size money and counts have."""
    return value.is_finite() and abs(value) < Decimal(10) ** 15


_OPENERS = """
a about all also an and are breakdown build calculate can code compute could create d determine display
distribution execute fetch find for generate get give hello hey hi i is just know let lets like list make me
need now of on please prepare produce query quick quickly report retrieve return run s see select show some
spark sql statement tell that the then there to us want wanted was we were what which who will would write you
"""
_LISTING = "display fetch find get give list retrieve return select show what which who"
_FUNCTION_WORDS = """
!= & 's , - < <= <> = > >= above according achieved across active after against annual annually apr april as asc
ascending at aug august available average based been before being below best between biggest both bottom bought
broken but by calendar called came change combined come comes coming compare compared comparison contributed
count data dec december delivered desc descending did different distinct do does down during each either equal
every exactly exceed exceeded exceeding exceeds except excluding exist feb february fewer fewest first fourth
fraction from generate generated greater greatest group grouped growth h1 h2 had half has have having higher
highest how in into it its jan january jul july jun june larger largest last latest leading least less located
lower lowest made many mar march maximum may minimum mom month monthly months more most much named no not nov
november number oct october onwards or order ordered other output outside over overall past per percent
percentage place placed proportion purchased put q1 q2 q3 q4 qoq quarter quarterly quarters rank ranked ranking
rate received recent recorded result results same save second sep sept september share shipped since smaller
smallest sort sorted split store sum table terms than thank thanks them third through throughout till time
together top total trend trends under unique until up using versus via vs well where whose with within worst
worth year years yoy
"""
#: Command words before the question itself.
OPENERS = frozenset(_OPENERS.split())
#: Among them those that ask for rows.
LISTING = frozenset(_LISTING.split())
#: Words that may stand before a noun and change nothing.
ARTICLES = frozenset({"a", "an", "any", "our", "the"})
#: Every word the grammar itself uses. A word that is neither here nor in the lexicon is refused at once.
FUNCTION_WORDS = OPENERS | LISTING | ARTICLES | frozenset(_FUNCTION_WORDS.split())
