"""Chunks: a document cut at its headings, then at its paragraphs, into pieces that are searched and quoted."""

from __future__ import annotations

import re
from dataclasses import dataclass

from workers.adapters.knowledge.documents import Document
from workers.rag.sentences import split

#: Words of a chunk, about: long enough to hold a thought, short enough that a match says something.
WORDS = 120

_HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*\s*$")
_FENCE = re.compile(r"\s*(```|~~~)")


@dataclass(frozen=True)
class Chunk:
    """A piece of a document; `chunk` is its position from 1, `title` the document's title and the heading above it."""

    chunk: int
    title: str
    text: str


def chunks_of(document: Document) -> list[Chunk]:
    found: list[Chunk] = []
    for heading, paragraphs in _sections(document.body):
        title = document.title if heading in ("", document.title) else f"{document.title}: {heading}"
        for text in _packed(paragraphs):
            found.append(Chunk(len(found) + 1, title, text))
    return found


def _sections(body: str) -> list[tuple[str, list[str]]]:
    """Headings with the paragraphs under them. What a fence encloses is never a heading nor cut at a blank line."""
    sections: list[tuple[str, list[str]]] = [("", [])]
    lines: list[str] = []
    fenced = False

    def close() -> None:
        if lines:
            sections[-1][1].append("\n".join(lines))
            lines.clear()

    for line in body.split("\n"):
        if _FENCE.match(line):
            fenced = not fenced
        heading = None if fenced else _HEADING.match(line)
        if heading:
            close()
            sections.append((heading.group(2), []))
        elif line.strip() or fenced:
            lines.append(line.rstrip())
        else:
            close()
    close()
    return [(heading, paragraphs) for heading, paragraphs in sections if paragraphs]


def _packed(paragraphs: list[str]) -> list[str]:
    """Paragraphs together up to the size of a chunk; what introduces a list stays with it."""
    packs: list[list[str]] = []
    size = 0
    for paragraph in (part for whole in paragraphs for part in _parts(whole)):
        words = len(paragraph.split())
        introduced = packs and packs[-1][-1].rstrip().endswith(":")
        if packs and (size + words <= WORDS or introduced):
            packs[-1].append(paragraph)
            size += words
        else:
            packs.append([paragraph])
            size = words
    return ["\n\n".join(pack) for pack in packs]


def _parts(paragraph: str) -> list[str]:
    """A paragraph that is far too long is cut between its lines (of a list) or sentences."""
    if len(paragraph.split()) <= WORDS or _FENCE.match(paragraph):
        return [paragraph]
    lines = paragraph.split("\n")
    listed = any(re.match(r"\s*(?:[-*+]|\d+[.)])\s", line) for line in lines)
    pieces, glue = (lines, "\n") if listed else (split(" ".join(paragraph.split())), " ")
    parts: list[list[str]] = [[]]
    for piece in pieces:
        if parts[-1] and sum(len(one.split()) for one in parts[-1]) + len(piece.split()) > WORDS:
            parts.append([])
        parts[-1].append(piece)
    return [glue.join(part) for part in parts]
