"""Words that carry meaning: how text becomes stems, for a question and for the knowledge it is held against."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import Stemmer

_WORD = re.compile(r"[^\W_]+(?:[_'’][^\W_]+)*")
_OF = re.compile(r"\s+of\b", re.IGNORECASE)
#: Nouns that name nothing before "of".
_IDIOM = re.compile(r"\b(?:part|kind|sort|lot|out|instead) of\b", re.IGNORECASE)

#: Words that say nothing about what is meant. The words of asking belong to them: they are in every question.
_EMPTY_WORDS = """
    a about above actually after again all also although always am an and another any anybody anyone anything are as
    ask at available away be because been before being below besides between both but by can cannot could did do does
    doing done down during each either else ever every everybody everyone exactly few find first for from further gave
    get gets getting give given gives go goes going gone got had happen happened happens has have having he hello help
    her here hers hi him his how however i if in into is it its itself just kindly know let lets like list made make
    makes many may maybe me might mine more most much must my myself need needed needs neither no nor not now of
    off often on once one only onto or other others our ours out over own per perhaps please put quite rather really
    same say says see shall she should show since so some somebody someone something still such take taken takes tell
    than thank thanks that the their theirs them then there these they thing things this those though through thus to
    too under until up upon us use used uses using usually very want wants was way we well went were what whatever when
    where wherever whether which while who whom whose why will with within without would yes yet you your yours
    it's i'm don't doesn't isn't aren't can't won't what's who's how's where's that's there's i've we've you've
    company business
"""
#: Words that shape a question more than they say what it is about, as stems; they help to rank and prove little.
_SHAPING_STEMS = """
    actual add affect allow alreadi answer appear appli automat belong best better big biggest calcul case check
    common compar complet comput consid consist contain correct correspond count cover creat current daili decid
    deduct defin depend describ detail determin differ distinguish earli exact exampl exclud exist expect explain
    fast figur follow formula full good handl happen high highest identifi import includ indic kind know larg
    largest leav long look low lowest main manag mean mention name necessari never new normal number often pend
    peopl person possibl precis purpos question quick reach real reason recent recogn recognis refer relat relev
    remov repres requir respect right rule see sens separ short show similar simpl slow small smallest soon sort
    special stand start stop subtract suppos today togeth total treat true twice type understand user usual valu
    whole word work worst wrong yesterday
"""
_EMPTY = frozenset(_EMPTY_WORDS.split())
_SHAPING = frozenset(_SHAPING_STEMS.split())
#: Forms of one word that the stemmer keeps apart, and short forms.
_SAME = {
    "definit": "defin",
    "meaning": "mean",
    "calculu": "calcul",
    "revenu": "sale",
    "turnov": "sale",
    "sell": "sale",
    "sold": "sale",
    "client": "custom",
    "buyer": "custom",
    "vendor": "supplier",
    "product": "part",
    "countri": "nation",
    "percentag": "percent",
    "came": "come",
    "sent": "send",
    "vat": "tax",
    "permit": "permiss",
    "authoris": "approv",
    "author": "approv",
    "authoriz": "approv",
    "deliveri": "deliv",
    "shipment": "ship",
}
#: Weight of a word that shapes, of an ordinary one, and of one that decides: a name, a code, what stands before "of".
#: Who asks for Acme's policy wants nobody else's; who asks for the salary of an engineer wants no other fact about one.
SHAPING, ORDINARY, DECIDING = 0.2, 1.0, 2.0
#: Different words of a question that are looked at; more only come from a pasted text.
MOST_TERMS = 40


@dataclass(frozen=True)
class Term:
    """A word of a question, as typed and as compared; `weight` says how much hangs on it."""

    word: str
    stem: str
    weight: float


def stems(text: str) -> list[str]:
    """The stems of the words that carry meaning, in order."""
    return [stem for _, stem in _stemmed(text)]


def terms(question: str) -> tuple[Term, ...]:
    """The different words of a question that carry meaning."""
    question = _IDIOM.sub(lambda idiom: " " * len(idiom.group()), question)
    found: dict[str, Term] = {}
    words = _stemmed(question)
    deciding = _names(question, words) | _heads(question, words)
    for place, (match, stem) in enumerate(words):
        word = match.group()
        weight = SHAPING if stem in _SHAPING else DECIDING if place in deciding else ORDINARY
        if stem not in found or found[stem].weight < weight:
            found[stem] = Term(word, stem, weight)
        if len(found) == MOST_TERMS:
            break
    return tuple(found.values())


def _names(text: str, words: Sequence[tuple[re.Match[str], str]]) -> set[int]:
    """Places of words written with a capital, unless that is only how a sentence begins or all of it is written."""
    if text.upper() == text:
        return set()
    return {
        n for n, (word, _) in enumerate(words) if word.group()[0].isupper() and not _starts_sentence(text, word.start())
    }


def _heads(text: str, words: Sequence[tuple[re.Match[str], str]]) -> set[int]:
    """Places of the words that stand together before "of": both of 'the churn rate of customers'."""
    found: set[int] = set()
    for n in reversed(range(len(words))):
        word = words[n][0]
        joined = n + 1 in found and not text[word.end() : words[n + 1][0].start()].strip(" -")
        if joined or _OF.match(text, word.end()):
            found.add(n)
    return found


def _stemmed(text: str) -> list[tuple[re.Match[str], str]]:
    kept = [(match, word) for match in _WORD.finditer(text) if (word := _plain(text, match)) is not None]
    # A stemmer keeps a cache that threads must not share; making one costs a microsecond.
    found = Stemmer.Stemmer("english", 0).stemWords([word for _, word in kept])
    return [(match, _SAME.get(stem, stem)) for (match, _), stem in zip(kept, found, strict=True)]


def _plain(text: str, match: re.Match[str]) -> str | None:
    """The word to compare, or None when it says nothing. A capital on its own is a code, as in 'status P'."""
    word = match.group()
    if len(word) == 1 and not word.isdigit():
        return word if word.isupper() and word != "I" and not _starts_sentence(text, match.start()) else None
    word = word.casefold().replace("’", "'")
    return None if word in _EMPTY else word.removesuffix("'s")


def _starts_sentence(text: str, at: int) -> bool:
    before = text[:at].rstrip(" \t\n\"'(`*")
    return not before or before[-1] in ".?!:"
