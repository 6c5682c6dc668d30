from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from bus.log.table import DeltaLog
from schemas.tables import KNOWLEDGE_CHUNKS, KNOWLEDGE_DOCUMENTS
from workers.adapters.knowledge import BadDocument, Ingested, KnowledgeStore
from workers.ports import PortError


def document(text: str, title: str = "A", **fields: str) -> str:
    more = "".join(f"{key}: {value}\n" for key, value in fields.items())
    return f"---\ntitle: {title}\n{more}---\n{text}"


def texts(store: KnowledgeStore) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in store.served():
        found.setdefault(one.document, []).append(one.text)
    return found


def test_what_was_ingested_is_served(store: KnowledgeStore):
    assert store.ingest([("a", document("One.", roles="[admin]"))]) == Ingested(("a",), ())
    [served] = store.served()
    assert (served.document, served.chunk, served.title, served.text, served.roles) == ("a", 1, "A", "One.", ("admin",))


def test_ingesting_again_appends_nothing(store: KnowledgeStore):
    store.ingest([("a", document("One.")), ("b", document("Two."))])
    version = store.version()
    assert store.ingest([("a", document("One.")), ("b", document("Two."))]) == Ingested((), ("a", "b"))
    assert store.version() == version
    assert texts(store) == {"a": ["One."], "b": ["Two."]}


def test_a_changed_text_replaces_all_chunks_of_the_older_version(store: KnowledgeStore):
    store.ingest([("a", document("# X\nOne.\n# Y\nTwo.")), ("b", document("B."))])
    assert store.ingest([("a", document("Three.")), ("b", document("B."))]) == Ingested(("a",), ("b",))
    assert texts(store) == {"a": ["Three."], "b": ["B."]}


def test_changed_roles_are_a_new_version(store: KnowledgeStore):
    store.ingest([("a", document("One."))])
    store.ingest([("a", document("One.", roles="[admin]"))])
    assert [one.roles for one in store.served()] == [("admin",)]


def test_a_text_that_comes_back_is_served_once(store: KnowledgeStore):
    for text in ("One.", "Two.", "One."):
        assert store.ingest([("a", document(text))]).added == ("a",)
    assert texts(store) == {"a": ["One."]}


def test_the_newest_version_counts_even_when_the_clock_went_back(new_store: Callable[..., KnowledgeStore]):
    times = [datetime(2026, 1, 9, tzinfo=UTC)]
    store = new_store(now=lambda: times[-1])
    store.ingest([("a", document("One."))])
    times.append(datetime(2026, 1, 1, tzinfo=UTC))
    store.ingest([("a", document("Two."))])
    assert texts(store) == {"a": ["Two."]}


def test_a_document_that_says_withdrawn_is_not_served(store: KnowledgeStore):
    store.ingest([("a", document("One."))])
    store.ingest([("a", document("One.", status="withdrawn"))])
    assert store.served() == []


def test_a_withdrawn_document_stays_so_until_its_text_changes(store: KnowledgeStore):
    store.ingest([("a", document("One."))])
    store.withdraw("a")
    assert store.served() == []
    assert store.ingest([("a", document("One."))]) == Ingested((), ("a",))
    assert store.served() == []
    store.ingest([("a", document("Two."))])
    assert texts(store) == {"a": ["Two."]}


def test_withdrawing_twice_is_once_and_of_nothing_is_an_error(store: KnowledgeStore):
    store.ingest([("a", document("One."))])
    store.withdraw("a")
    version = store.version()
    store.withdraw("a")
    assert store.version() == version
    with pytest.raises(BadDocument, match="there is no document 'b'"):
        store.withdraw("b")


def test_one_bad_document_keeps_all_out(store: KnowledgeStore):
    with pytest.raises(BadDocument, match=r"b\.md:3: unknown key 'role'"):
        store.ingest([("a", document("One.")), ("b", document("Two.", role="[admin]"))])
    assert store.served() == []


def test_a_document_given_twice_is_refused(store: KnowledgeStore):
    with pytest.raises(BadDocument, match="a was given twice"):
        store.ingest([("a", document("One.")), ("a", document("Two."))])


def test_a_folder_is_ingested(store: KnowledgeStore, tmp_path: Path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text(document("One."), encoding="utf-8")
    assert store.ingest(tmp_path / "docs").added == ("a",)
    assert store.ingest(str(tmp_path / "docs")).unchanged == ("a",)


class CrashesBeforeCommit(DeltaLog):
    """A log whose process dies as it wants to append."""

    def append(self, rows: pa.Table, txns: object = None) -> int:
        raise OSError("the process died here")


def test_a_crash_between_the_two_tables_shows_nothing_and_is_repaired_by_ingesting_again(tmp_path: Path):
    chunks = DeltaLog(tmp_path / "chunks", KNOWLEDGE_CHUNKS)
    documents = DeltaLog(tmp_path / "documents", KNOWLEDGE_DOCUMENTS)
    chunks.create()
    documents.create()
    dying = KnowledgeStore(CrashesBeforeCommit(documents.path, KNOWLEDGE_DOCUMENTS), chunks)
    with pytest.raises(OSError, match="died here"):
        dying.ingest([("a", document("One."))])
    store = KnowledgeStore(documents, chunks)
    assert store.served() == []
    store.ingest([("a", document("One."))])
    assert texts(store) == {"a": ["One."]}


def test_the_tables_are_read_by_any_delta_reader_and_hold_every_version(tmp_path: Path):
    documents = DeltaLog(tmp_path / "documents", KNOWLEDGE_DOCUMENTS)
    chunks = DeltaLog(tmp_path / "chunks", KNOWLEDGE_CHUNKS)
    documents.create()
    chunks.create()
    store = KnowledgeStore(documents, chunks)
    store.ingest([("a", document("One.", roles="[admin]"))])
    store.ingest([("a", document("Two."))])
    rows = DeltaTable(str(tmp_path / "documents")).to_pyarrow_table().to_pylist()
    assert sorted((row["document"], tuple(row["roles"]), row["status"]) for row in rows) == [
        ("a", ("*",), "approved"),
        ("a", ("admin",), "approved"),
    ]
    rows = DeltaTable(str(tmp_path / "chunks")).to_pyarrow_table().to_pylist()
    assert sorted(row["text"] for row in rows) == ["One.", "Two."]


def test_no_tables_is_a_clear_error(tmp_path: Path):
    missing = KnowledgeStore(DeltaLog(tmp_path / "d", KNOWLEDGE_DOCUMENTS), DeltaLog(tmp_path / "c", KNOWLEDGE_CHUNKS))
    with pytest.raises(PortError, match="run `tailrace init`"):
        missing.served()


def test_two_who_ingest_at_once_leave_one_version_served(tmp_path: Path):
    documents = DeltaLog(tmp_path / "documents", KNOWLEDGE_DOCUMENTS)
    chunks = DeltaLog(tmp_path / "chunks", KNOWLEDGE_CHUNKS)
    documents.create()
    chunks.create()
    start = Barrier(4)

    def ingest(number: int) -> None:
        start.wait()
        KnowledgeStore(documents, chunks).ingest([("a", document(f"# X\nBy {number}.\n# Y\nBy {number}."))])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ingest, range(4)))
    [first, second] = texts(KnowledgeStore(documents, chunks))["a"]
    assert first == second
