"""Words of a question: splits text into tokens with their place, reads numbers, and knows which words carry no meaning."""

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
_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_NUMBER_WORDS = {word: Decimal(n) for n, word in enumerate(_ONES) if n} | {
    word: Decimal(10 * n) for n, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}
#: Marks that end or separate clauses and never change a meaning where they stand.
_SILENT = set("?!.:\"`()")


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
    text = unicodedata.normalize("NFKC", text).replace("\u2019", "'").replace("\u2018", "'").replace("\u201c", '"').replace("\u201d", '"')
    text = re.sub(r"[\u2010-\u2015]", "-", text)
    found: list[Token] = []
    for match in _TOKEN.finditer(text):
        kind, raw = str(match.lastgroup), match.group()
        if kind == "mark":
            if raw in _SILENT or (raw == "'" and _at_word_edge(text, match)):
                continue
            if raw == "-" and _joins_words(text, match):
                # Between digits a hyphen is a range, between letters a spelling.
                if not (text[match.start() - 1].isdigit() and text[match.end()].isdigit()):
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
    return 0 < match.start() and match.end() < len(text) and text[match.start() - 1].isalnum() and text[match.end()].isalnum()


def _number(raw: str) -> Token:
    body = raw.lstrip("$")
    digits = re.match(r"[\d,.]+", body).group()  # type: ignore[union-attr]
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
            joined[-1] = Token("number", f"{last.text} {token.text}", f"{last.word} {token.word}", value, money=last.money)
            continue
        elif last and last.number is not None and token.word in ("percent", "dollars") and not last.percent:
            percent = token.word == "percent"
            joined[-1] = Token("number", f"{last.text} {token.text}", last.word, last.number, percent=percent, money=not percent)
            continue
        joined.append(token)
    return joined


def is_plain(value: Decimal) -> bool:
    """Whether a number can be written in SQL as it is: finite and of a size money and counts have."""
    return value.is_finite() and abs(value) < Decimal(10) ** 15


#: Command words before the question itself. 'list' and 'show' are remembered: they ask for rows.
OPENERS = frozenset(
    """please can could would will you i we want wanted need like d to know see me us tell give get list show display find fetch return retrieve
    compute calculate determine generate create write build produce make prepare run execute sql spark query select statement
    code report a an the that what is are was were s of for on about lets let hi hello hey
    which who there and now then also just some quick quickly""".split()
)
LISTING = frozenset("list show display find fetch return retrieve give get which what who select".split())
#: Words that may stand before a noun and change nothing.
ARTICLES = frozenset("the a an all our of any every".split()) - {"every"}

#: Every word the grammar itself uses. A word that is neither here nor in the lexicon is refused at once.
FUNCTION_WORDS = (
    OPENERS
    | LISTING
    | ARTICLES
    | frozenset(
        """, & - 's and or but by per each every in from to of for on at with within via using across over through throughout during since
    before after until till between last past recent latest first second third fourth half q1 q2 q3 q4 h1 h2 year years quarter
    quarters month months annual annually monthly quarterly time trend trends january february march april may june july august
    september october november december jan feb mar apr jun jul aug sep sept oct nov dec data available top bottom best worst
    highest lowest largest smallest biggest greatest leading most least fewest maximum minimum largest more less fewer greater larger higher lower smaller
    than above below under exceeding exceed exceeds least equal exactly not no up excluding except outside other have has had having that
    which who whose where placed made ordered shipped delivered received bought purchased generated achieved recorded do does did been
    being there exist share percentage percent proportion fraction comes come came contributed growth rate change compare compared comparison
    versus vs against rank ranked ranking sort sorted order ordered descending ascending desc asc split broken down grouped group
    how many much annual number count distinct different unique total overall combined sum together terms based according calendar
    worth active it its them result results output save store write into put table named called as please thanks thank
    than > < >= <= = <> != onwards on yoy mom qoq average either both well same average""".split()
    )
)
