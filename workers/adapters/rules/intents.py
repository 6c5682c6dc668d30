"""Intent detection by rules: command words say whether to explain, to write or to run; the semantic layer says what is data."""

from __future__ import annotations

import re
from collections.abc import Callable

from workers.ports import Intent

#: Schema that results are saved to.
RESULTS = "results"
#: Longer questions are looked at only up to here; the orchestrator refuses them anyway.
_LIMIT = 4000

_SAVE = re.compile(
    r"[,;]?\s*(?:and\s+|then\s+)*(?:save|store|write|persist|keep)\s+(?:it|them|this|that|(?:the\s+)?(?:results?|output|rows|answer))?"
    r"\s*(?:(?:in|into|to|as)\s+)?(?:an?\s+|the\s+)?(?:(?:new\s+|delta\s+)*table\b)?\s*(?:named\s+|called\s+)?"
    r"(?P<name>[`\"']?[\w.\-/\\;]+[`\"']?)?\s*[.!?]*\s*$",
    re.IGNORECASE,
)
_PLEASE = r"^\s*(?:please\s+|can you\s+|could you\s+)*"
_EXECUTE = re.compile(_PLEASE + r"(?:execute|run)\b|\b(?:and|then)\s+(?:execute|run)\b(?:\s+it)?", re.I)
_GENERATE = re.compile(
    r"\b(?:generate|write|create|build|draft|compose|produce|give me|show me|need|want)\b[^.?!]{0,40}"
    r"\b(?:sql|query|queries|code|statement|select)\b"
    r"|^\s*(?:sql|query)\s+(?:for|to)\b",
    re.I,
)
_COMMAND = re.compile(
    _PLEASE + r"(?:execute|run|generate|write|create|build|draft|compose|produce|give me|show me|i need|i want)?\s*"
    r"(?:an?\s+|the\s+|some\s+)?(?:spark\s+)?(?:sql|query|queries|code|statement)?(?:\s+(?:query|code|statement))?"
    r"\s*(?:to\s+(?:find|get|show|list|compute|calculate|answer)|for"
    r"|that\s+(?:shows|finds|lists|gives|computes)|which\s+(?:shows|finds|lists))?\s*:?\s+",
    re.I,
)
_EXECUTE_IT = re.compile(
    r"[,;]?\s*\b(?:and|then)\s+(?:execute|run)\b(?:\s+(?:it|this|that|the\s+(?:query|sql|code)))?", re.I
)
_KNOWLEDGE = re.compile(
    r"\b(?:defin(?:e|ed|es|ition|itions)|mean(?:s|ing)?|explain|polic(?:y|ies)|rules?|guidelines?|procedure|process|document(?:s|ation|ed)?"
    r"|why|who (?:may|can|must|is allowed)|am i allowed|allowed to|what counts|counts? as|(?:discounts?|items?|orders?) counts?\b"
    r"|how (?:do|does|should|can) (?:i|we|you|one|it|an? |the )"
    r"|how (?:is|are|was|were) .{1,60}(?:calculated|computed|measured|counted|determined))\b",
    re.I,
)


class RuleIntents:
    """`is_data(question)`: whether the semantic layer can map it."""

    def __init__(self, is_data: Callable[[str], bool]) -> None:
        self._is_data = is_data

    def detect(self, question: str) -> Intent:
        text = " ".join(question[:_LIMIT].split())
        if _EXECUTE.search(text):
            subject, target = _split_target(_EXECUTE_IT.sub("", text) if not _EXECUTE.match(text) else text)
            return Intent("execute_code", _without_command(subject), target)
        if _KNOWLEDGE.search(text) and not _GENERATE.search(text):
            return Intent("answer_knowledge", text)
        if _GENERATE.search(text):
            subject, _ = _split_target(text)
            return Intent("generate_code", _without_command(subject))
        if self._is_data(text) or _looks_like_data(text):
            return Intent("answer_data", text)
        return Intent("answer_knowledge", text)


def _split_target(text: str) -> tuple[str, str | None]:
    """The question without its save clause, and the table it names (as `schema.table`), if any."""
    match = _SAVE.search(text)
    if match is None or match.start() == 0:
        return text, None
    subject = text[: match.start()]
    name = (match.group("name") or "").strip("`\"'").rstrip(".")
    if not name:
        name = _slug(_without_command(subject))
    # Taken as said, in lower case: whether it is a fit name is the engine's rule, not a guess of ours.
    name = name.lower()
    return subject, name if "." in name else f"{RESULTS}.{name}"


def _without_command(text: str) -> str:
    stripped = _COMMAND.sub("", text, count=1).strip()
    return stripped or text


def _slug(text: str) -> str:
    words = re.findall(r"[a-z0-9]+", text.lower())
    name = "_".join(words)[:60].strip("_") or "result"
    return name if name[0].isalpha() else f"result_{name}"


def _looks_like_data(text: str) -> bool:
    return (
        re.search(r"\b(?:top|bottom|how many|how much|total|sum|average|count|number of|per|by)\b", text, re.I)
        is not None
    )
