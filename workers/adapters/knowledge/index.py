"""BM25Index: ranks, for each role, exactly the chunks that role may read, as if there were no others."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import bm25s
import numpy as np

from workers.adapters.knowledge.store import KnowledgeStore, Served
from workers.ports import Passage
from workers.rag.words import Term, stems, terms

#: Reads everything.
ADMIN = "admin"
#: How often the words of a title count: a heading says what its text is about.
TITLE_WEIGHT = 2


class _Ranking:
    """BM25 over one set of chunks. Word frequencies come from this set alone: what is not in it leaves no trace."""

    def __init__(self, chunks: Sequence[Served]) -> None:
        self._chunks = chunks
        self._titles = [frozenset(stems(one.title)) for one in chunks]
        tokens = [stems(one.title) * TITLE_WEIGHT + stems(one.text) for one in chunks]
        self._words = [frozenset(one) for one in tokens]
        self._known = frozenset(word for one in tokens for word in one)
        self._bm25 = bm25s.BM25(backend="numpy")
        if self._known:
            self._bm25.index(tokens, show_progress=False)

    def search(self, asked: Sequence[Term], limit: int) -> list[Passage]:
        wanted = [term.stem for term in asked if term.stem in self._known]
        if not wanted:
            return []
        scores = self._bm25.get_scores(wanted)
        order = [int(n) for n in np.argsort(-scores, kind="stable")[:limit] if scores[n] > 0]
        return [self._passage(n, float(scores[n]), asked) for n in order]

    def _passage(self, n: int, score: float, asked: Sequence[Term]) -> Passage:
        one = self._chunks[n]
        return Passage(one.document, one.chunk, one.title, one.text, round(score, 4), self._why(n, asked))

    def _why(self, n: int, asked: Sequence[Term]) -> str:
        words = [term.word for term in asked if term.stem in self._words[n]]
        heading = [term.word for term in asked if term.stem in self._titles[n]]
        return f"matches {', '.join(words)}" + (f"; in the heading: {', '.join(heading)}" if heading else "")


@dataclass(frozen=True)
class _Snapshot:
    """The knowledge at one version, and the rankings made from it so far, by the role lists that are readable."""

    version: int
    chunks: Sequence[Served]
    access: frozenset[tuple[str, ...]]
    rankings: dict[frozenset[tuple[str, ...]], _Ranking]


class BM25Index:
    """A KnowledgeIndex over the knowledge store. Follows new versions by itself; safe for several threads."""

    def __init__(self, store: KnowledgeStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._snapshot = _Snapshot(-1, (), frozenset(), {})

    def search(self, question: str, role: str, limit: int) -> Sequence[Passage]:
        """Best passages first, among those `role` may read. Scores are BM25 over exactly these."""
        asked = terms(question)
        return self._ranking(role).search(asked, limit) if asked else []

    def _ranking(self, role: str) -> _Ranking:
        with self._lock:
            snapshot = self._refreshed()
            # Roles that read the same share a ranking, so an unheard-of role costs nothing.
            readable = frozenset(roles for roles in snapshot.access if _may_read(role, roles))
            if readable not in snapshot.rankings:
                chunks = [one for one in snapshot.chunks if one.roles in readable]
                snapshot.rankings[readable] = _Ranking(chunks)
            return snapshot.rankings[readable]

    def _refreshed(self) -> _Snapshot:
        version = self._store.version(self._snapshot.version)
        if version != self._snapshot.version:
            chunks = self._store.served()
            self._snapshot = _Snapshot(version, chunks, frozenset(one.roles for one in chunks), {})
        return self._snapshot


def _may_read(role: str, roles: tuple[str, ...]) -> bool:
    return "*" in roles or role in roles or role == ADMIN
