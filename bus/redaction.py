"""Redaction: secrets and personal data are masked before text reaches a log, a message or a prompt.

Pure and in linear time: our patterns are bounded and repeat nothing that repeats, those of a policy run on RE2, which never
goes back. Most text holds nothing, and one look by RE2 for a few words says so, over all messages of a commit at once. Inside
JSON only strings are masked, so that what was a number stays one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import re2

from schemas.redaction import Place, RedactionPolicy, RedactionRule

#: Text longer than this is looked at in pieces that overlap, so that a match at a seam is still found.
_PIECE, _OVERLAP = 1 << 16, 1 << 10


@dataclass(frozen=True)
class Detector:
    """The one group of `pattern`, `it`, is what is masked, if `check` holds.

    What is looked for first, by RE2: `hints`, words one of which stands in all it finds, or `shape`, a simpler pattern.
    """

    pattern: str
    hints: tuple[str, ...] = ()
    shape: str = ""
    check: Callable[[str], bool] = lambda _: True


def _luhn(text: str) -> bool:
    digits = [int(c) for c in text if c.isdigit()]
    doubled = sum(sum(divmod(2 * d, 10)) for d in digits[-2::-2])
    return len(digits) >= 13 and (sum(digits[-1::-2]) + doubled) % 10 == 0


def _iban(text: str) -> bool:
    plain = text.replace(" ", "")
    turned = plain[4:] + plain[:4]
    return 15 <= len(plain) <= 34 and int("".join(str(int(c, 36)) for c in turned)) % 97 == 1


_VALUE = r"[^\s\"'`,;&<>\[\]{}()\\]"
#: What can be looked for by name.
DETECTORS: Mapping[str, Detector] = {
    "private_key": Detector(
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----(?P<it>(?:[^-]|-(?!----)){1,20000})", ("private key-----",)
    ),
    "jwt": Detector(r"\b(?P<it>eyJ[\w-]{8,2000}\.eyJ[\w-]{8,8000}\.[\w-]{8,2000})", ("eyj",)),
    "cloud_key": Detector(
        r"(?<![\w-])(?P<it>(?:AKIA|ASIA)[A-Z0-9]{16}|dapi[0-9a-f]{32}(?:-\d)?|gh[pousr]_[A-Za-z0-9]{36,255}"
        r"|github_pat_\w{22,255}|xox[abprs]-[\w-]{10,250}|sk-[A-Za-z0-9_-]{20,200}|AIza[\w-]{35}|glpat-[\w-]{20,64})(?![\w])",
        ("akia", "asia", "dapi", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "xox", "sk-", "aiza", "glpat-"),
    ),
    "assigned_secret": Detector(
        r"(?i)\b(?:password|passwd|pwd|secret|api[_-]?key|access[_-]?key|account[_-]?key|client[_-]?secret|auth[_-]?token"
        r"|access[_-]?token|refresh[_-]?token|sig)\b[\\\"']{0,3}\s{0,3}(?:=>|:=|=|:|\bis\b|(?=[\"']))\s{0,3}[\\\"']{0,3}"
        rf"(?P<it>{_VALUE}{{4,500}})",
        ("password", "passwd", "pwd", "secret", "key", "token", "sig"),
    ),
    "bearer": Detector(r"(?i)\b(?:bearer|basic)\s{1,3}(?P<it>[A-Za-z0-9._~+/=-]{16,4000})", ("bearer", "basic")),
    "url_password": Detector(r"://[^\s:/@\"'\\]{0,100}:(?P<it>[^\s:/@\"'\\\[\]]{1,200})@", ("://",)),
    "email": Detector(
        r"(?<![\w.+-])(?P<it>[A-Za-z0-9_][\w.+-]{0,63}@[A-Za-z0-9][A-Za-z0-9-]{0,62}(?:\.[A-Za-z0-9-]{1,63}){1,5})",
        ("@",),
    ),
    "phone": Detector(r"(?<![\w./:+-])(?P<it>(?:\+|00)[1-9]\d{0,2}(?:[ ()/.-]{0,2}\d){6,13})(?![\w-])", ("+", "00")),
    "card": Detector(
        r"(?<![\w.:-])(?P<it>[3-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7})(?![\w:-])",
        (),
        r"[3-6]\d{3}[ -]?\d{4}[ -]?\d{4}",
        _luhn,
    ),
    "iban": Detector(
        r"(?<![\w-])(?P<it>[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?)(?![\w-])",
        (),
        r"[A-Z][A-Z]\d\d ?[A-Z0-9]{4}",
        _iban,
    ),
    "us_ssn": Detector(
        r"(?<![\w-])(?P<it>(?!000|666|9\d\d)\d{3}-(?!00)\d\d-(?!0000)\d{4})(?![\w-])", (), r"\d{3}-\d\d-\d{4}"
    ),
}
#: Detectors of what opens doors; whoever holds no policy uses these.
SECRETS = ("private_key", "jwt", "cloud_key", "assigned_secret", "bearer", "url_password")


class UnknownDetector(ValueError):
    """A rule names a detector that is not built in; the message names those that are."""


@dataclass(frozen=True)
class _Rule:
    id: str
    keep: int
    first: str
    pattern: Any
    check: Callable[[str], bool]


class Redactor:
    """Finds and masks by the rules of a policy. Raises UnknownDetector, or ValueError for a pattern that is none."""

    def __init__(self, rules: Iterable[RedactionRule]) -> None:
        self._rules: dict[Place, list[_Rule]] = {"message": [], "log": [], "prompt": []}
        for rule in rules:
            compiled = _compiled(rule)
            for place in rule.where:
                self._rules[place].append(compiled)
        self._first = {
            place: re2.compile("|".join(f"(?:{rule.first})" for rule in found)) if found else None
            for place, found in self._rules.items()
        }

    @classmethod
    def of(cls, policy: RedactionPolicy) -> Redactor:
        return cls(policy.rules)

    @classmethod
    def of_secrets(cls) -> Redactor:
        """Without a policy: what opens doors, wherever it would go."""
        everywhere: tuple[Place, ...] = ("message", "log", "prompt")
        return cls(RedactionRule(id=name.replace("_", "."), detector=name, where=everywhere) for name in SECRETS)

    def text(self, value: str, place: Place) -> str:
        """`value` with what was found masked."""
        rules = self._suspects(value, place)
        return self._masked(value, rules) if rules else value

    def found(self, value: str, place: Place) -> list[str]:
        """Ids of the rules that would change this text."""
        return [rule.id for rule in self._suspects(value, place) if _apply(rule, value) != value]

    def content(self, document: str) -> str:
        """The content of a message, as JSON: its strings masked, all else as it was."""
        rules = self._suspects(document, "message")
        if not rules or all(rule.pattern.search(document) is None for rule in rules):
            return document
        try:
            said = json.loads(document)
            masked = self._walk(said, rules)
        except (ValueError, RecursionError):  # no JSON, or deeper than anybody reads
            return self._masked(document, rules)
        if masked == said:
            return document
        return json.dumps(masked, ensure_ascii=False, separators=(",", ":"))

    def value(self, value: Any, place: Place) -> Any:
        """Strings inside dicts, lists and tuples masked, at any depth; other values as they are."""
        if isinstance(value, str):
            return self.text(value, place)
        return self._walk(value, self._rules[place])

    def suspicious(self, texts: Iterable[str], place: Place) -> bool:
        """Whether any of them is worth a closer look: one look at all of them."""
        first = self._first[place]
        return first is not None and first.search("\n".join(texts)) is not None

    def _suspects(self, text: str, place: Place) -> list[_Rule]:
        return self._rules[place] if self.suspicious((text,), place) else []

    def _masked(self, text: str, rules: Sequence[_Rule]) -> str:
        if len(text) > _PIECE:
            return self._masked_in_pieces(text, rules)
        for rule in rules:
            text = _apply(rule, text)
        return text

    def _masked_in_pieces(self, text: str, rules: Sequence[_Rule]) -> str:
        """Cut where there is a space, so that nothing without one is torn; else anywhere."""
        parts = []
        while len(text) > _PIECE:
            cut = text.rfind(" ", _PIECE - _OVERLAP, _PIECE) + 1 or _PIECE
            parts.append(self._masked(text[:cut], rules))
            text = text[cut:]
        return "".join(parts) + self._masked(text, rules)

    def _walk(self, said: Any, rules: Sequence[_Rule]) -> Any:
        if isinstance(said, str):
            return self._masked(said, rules)
        if isinstance(said, Mapping):
            return {self._key(key, rules): self._member(key, value, rules) for key, value in said.items()}
        if isinstance(said, list | tuple):
            return [self._walk(one, rules) for one in said]
        return said

    def _key(self, key: Any, rules: Sequence[_Rule]) -> Any:
        return self._masked(key, rules) if isinstance(key, str) else key

    def _member(self, key: Any, value: Any, rules: Sequence[_Rule]) -> Any:
        """Of `"password": "x"` the value says nothing; together with its name it does."""
        if isinstance(key, str) and isinstance(value, str):
            named = f"{key}={value}"
            for rule in rules:
                match = rule.pattern.match(named)
                if match is not None and match.start(1) > len(key) and rule.check(match[1]):
                    return _mask(rule, match[1])
        return self._walk(value, rules)


def _compiled(rule: RedactionRule) -> _Rule:
    if rule.detector is not None and rule.detector not in DETECTORS:
        raise UnknownDetector(
            f"rule {rule.id}: there is no detector {rule.detector}; there are {', '.join(sorted(DETECTORS))}"
        )
    keep = 4 if rule.action == "last4" else 0
    if rule.pattern is not None:
        try:
            return _Rule(rule.id, keep, rule.pattern, re2.compile(f"(?P<it>{rule.pattern})"), lambda _: True)
        except re2.error as error:
            raise ValueError(f"rule {rule.id}: {rule.pattern!r} is no pattern that RE2 takes: {error}") from error
    detector = DETECTORS[rule.detector or ""]
    first = f"(?i:{'|'.join(re.escape(hint) for hint in detector.hints)})" if detector.hints else detector.shape
    return _Rule(rule.id, keep, first, re.compile(detector.pattern, re.DOTALL), detector.check)


def _apply(rule: _Rule, text: str) -> str:
    def replaced(match: Any) -> str:
        it = match[1]
        if not it or it.startswith("[") or not rule.check(it):
            return match[0]
        whole, begin = match[0], match.start(1) - match.start()
        return whole[:begin] + _mask(rule, it) + whole[begin + len(it) :]

    return rule.pattern.sub(replaced, text)


def _mask(rule: _Rule, it: str) -> str:
    return f"[{rule.id}]{it[-rule.keep :]}" if rule.keep else f"[{rule.id}]"
