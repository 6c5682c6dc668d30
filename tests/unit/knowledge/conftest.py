from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from bus.log.table import DeltaLog
from schemas.tables import KNOWLEDGE_CHUNKS, KNOWLEDGE_DOCUMENTS
from workers.adapters.knowledge import KnowledgeStore


@pytest.fixture
def new_store(tmp_path: Path) -> Callable[..., KnowledgeStore]:
    """Makes stores on tables of their own; each commit is a second later than the one before, or as `now` says."""
    numbers = count()

    def make(now: Callable[[], datetime] | None = None) -> KnowledgeStore:
        ticks = count()
        clock = now or (lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=next(ticks)))
        home = tmp_path / f"tables{next(numbers)}"
        documents = DeltaLog(home / "knowledge_documents", KNOWLEDGE_DOCUMENTS, now=clock)
        chunks = DeltaLog(home / "knowledge_chunks", KNOWLEDGE_CHUNKS, now=clock)
        documents.create()
        chunks.create()
        return KnowledgeStore(documents, chunks)

    return make


@pytest.fixture
def store(new_store: Callable[..., KnowledgeStore]) -> KnowledgeStore:
    return new_store()
