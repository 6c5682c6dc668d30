"""What can be quoted from a text on its own: a sentence, an item of a list, or a short list with what introduces it."""

from __future__ import annotations

import re

#: Words of a list that still reads as one sentence together with its introduction.
SHORT_LIST = 60

_END = re.compile(r"(?<=[.!?])[\"')\]`*]*\s+(?=[\"'(\[`*]*[A-Z0-9])")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|cf|approx|no|mr|ms|dr))\.$", re.IGNORECASE)
_ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+")
_LINK = re.compile(r"\[([^\]]+)\]\([^)\s]+\)")
_BLOCKS = re.compile(r"\n\s*\n")


def quotable(text: str) -> list[str]:
    """The pieces of a Markdown text, in order, each on one line and without its marks; no word is changed."""
    pieces: list[str] = []
    introduction = ""
    for block in _BLOCKS.split(text):
        prose, items = _parse(block)
        if prose:
            if introduction:
                pieces.append(introduction)
                introduction = ""
            *said, last = split(prose)
            pieces += said
            if last.endswith(":"):
                introduction = last
            else:
                pieces.append(last)
        if items:
            if introduction and sum(len(item.split()) for item in items) <= SHORT_LIST:
                pieces.append(f"{introduction} {_joined(items)}")
            else:
                pieces += [introduction] * bool(introduction) + items
            introduction = ""
    return pieces + [introduction] * bool(introduction)


def split(prose: str) -> list[str]:
    """The sentences of a paragraph."""
    found: list[str] = []
    start = 0
    for match in _END.finditer(prose):
        in_code = prose.count("`", 0, match.end()) % 2 == 1
        if not in_code and not _ABBREVIATION.search(prose[: match.start()]):
            found.append(prose[start : match.end()].strip())
            start = match.end()
    return [*found, prose[start:].strip()] if prose[start:].strip() else found


def _parse(block: str) -> tuple[str, list[str]]:
    """The running text of a block, and the items of the list that follows it."""
    prose: list[str] = []
    items: list[list[str]] = []
    for line in block.splitlines():
        if line.strip().startswith("```"):
            continue
        marker = _ITEM.match(line)
        if marker:
            items.append([line[marker.end() :]])
        elif items:
            items[-1].append(line)
        else:
            prose.append(line)
    return _plain(prose), [_plain(item) for item in items]


def _plain(lines: list[str]) -> str:
    text = _LINK.sub(r"\1", " ".join(lines)).replace("**", "")
    return " ".join(text.split())


def _joined(items: list[str]) -> str:
    ended = [item if item.endswith((".", "!", "?", ";")) else f"{item};" for item in items]
    return f"{' '.join(ended)[:-1]}." if ended[-1].endswith(";") else " ".join(ended)
