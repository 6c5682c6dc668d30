"""The knowledge as it is kept: versions of documents and their chunks in two Delta tables, folded on reading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bus.errors import LogMissing
from bus.log.table import DeltaLog
from workers.adapters.knowledge.chunks import chunks_of
from workers.adapters.knowledge.documents import BadDocument, Document, parse, read_folder
from workers.ports import PortError


@dataclass(frozen=True)
class Ingested:
    """Names of the documents that got a new version, and of those that had this very text already."""

    added: tuple[str, ...]
    unchanged: tuple[str, ...]


@dataclass(frozen=True)
class Served:
    """A chunk of a document's current version, with the roles that may read it."""

    document: str
    chunk: int
    title: str
    text: str
    roles: tuple[str, ...]


class KnowledgeStore:
    """Documents go in, the chunks of their current versions come out. Both tables are only ever appended to."""

    def __init__(self, documents: DeltaLog, chunks: DeltaLog) -> None:
        self._documents = documents
        self._chunks = chunks

    def ingest(self, source: Path | str | Iterable[tuple[str, str]]) -> Ingested:
        """Add what is new, from a folder of Markdown or from (name, text). All of it or, at a bad document, none.

        A text is a version. A document that was withdrawn stays so until its text changes.
        """
        pairs = read_folder(Path(source)) if isinstance(source, str | Path) else source
        parsed: dict[str, Document] = {}
        for name, text in pairs:
            if name in parsed:
                raise BadDocument(f"{name} was given twice; a document has one text")
            parsed[name] = parse(name, text)
        current = self._current()
        new = [one for one in parsed.values() if one.name not in current or current[one.name]["sha256"] != one.sha256]
        if new:
            self._append([(one, self._time_after(current.get(one.name))) for one in new])
        added = tuple(one.name for one in new)
        return Ingested(added, tuple(name for name in parsed if name not in added))

    def check(self, name: str, text: str) -> str:
        """The digest under which this text would be kept. Raises BadDocument."""
        return parse(name, text).sha256

    def add(self, name: str, text: str) -> bool:
        """One document; False when this very text was its newest version already. Raises BadDocument."""
        return bool(self.ingest([(name, text)]).added)

    def documents(self) -> list[dict[str, Any]]:
        """The newest version of each document, by name."""
        current = self._current()
        return [current[name] for name in sorted(current)]

    def withdraw(self, name: str) -> None:
        """Stop serving a document. Its versions stay in the table."""
        current = self._current().get(name)
        if current is None:
            raise BadDocument(f"there is no document '{name}' to withdraw")
        if current["status"] != "withdrawn":
            row = {**current, "status": "withdrawn", "timestamp": self._time_after(current)}
            self._documents.append(pa.Table.from_pylist([row], schema=self._documents.schema.file_schema))

    def version(self, known: int = -1) -> int:
        """A number that grows whenever something was ingested or withdrawn; cheap from a `known` one on."""
        try:
            return self._documents.head(known)
        except LogMissing as error:
            raise PortError("There is no knowledge yet: run `tailrace init`.") from error

    def served(self) -> list[Served]:
        """The chunks of every approved document's current version, by document and position."""
        current = {name: row for name, row in self._current().items() if row["status"] == "approved"}
        # Documents are read first: their chunks were appended before them, so none can be missing.
        table, _ = self._chunks.scan(columns=["document", "chunk", "title", "text", "timestamp"])
        found: dict[tuple[str, int], Served] = {}
        for row in table.to_pylist():
            document = current.get(row["document"])
            if document is not None and document["timestamp"] == row["timestamp"]:
                one = Served(row["document"], row["chunk"], row["title"], row["text"], tuple(document["roles"]))
                found[one.document, one.chunk] = one
        return [found[key] for key in sorted(found)]

    def _append(self, versions: list[tuple[Document, datetime]]) -> None:
        """Chunks first: a crash in between leaves chunks that no document row makes visible."""
        documents: list[dict[str, Any]] = []
        chunks: list[dict[str, Any]] = []
        for one, time in versions:
            shared = {"document": one.name, "sha256": one.sha256, "roles": list(one.roles), "timestamp": time}
            documents.append({**shared, "title": one.title, "text": one.text, "status": one.status})
            chunks += [{**shared, "chunk": c.chunk, "title": c.title, "text": c.text} for c in chunks_of(one)]
        self._chunks.append(pa.Table.from_pylist(chunks, schema=self._chunks.schema.file_schema))
        self._documents.append(pa.Table.from_pylist(documents, schema=self._documents.schema.file_schema))

    def _current(self) -> dict[str, dict[str, Any]]:
        """The newest version of each document; of two at the same microsecond the digest decides."""
        self.version()
        table, _ = self._documents.scan()
        table = table.take(pc.sort_indices(table, [("timestamp", "ascending"), ("sha256", "ascending")]))
        return {row["document"]: row for row in table.to_pylist()}

    def _time_after(self, current: Mapping[str, Any] | None) -> datetime:
        """Now, but after the version it replaces, even when a clock went back."""
        now = self._documents.now().astimezone(UTC)
        return now if current is None else max(now, current["timestamp"] + timedelta(microseconds=1))
