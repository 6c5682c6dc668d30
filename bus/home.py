"""The layout of TAILRACE_HOME: where tables, keys, business data and traces of running processes live."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bus.log.store import Location, within

#: How the place of the tables names Unity Catalog: uc://catalog.schema.
UNITY = "uc://"
#: The one table that is there; the others stay in the home.
_IN_CATALOGUE = "agent_messages"


@dataclass(frozen=True)
class Home:
    """Places only; making them is `tailrace init`'s work.

    `tables_at`: the URL of the tables when they are in an object store. Whoever does not say finds what init noted, so
    that the setting cannot be forgotten; keys and the traces of processes stay in the folder.
    """

    root: Path
    tables_at: str | None = None

    @property
    def tables(self) -> Location:
        return self.tables_at or self.noted_tables or self.root / "tables"

    def table(self, name: str) -> Location:
        if self.catalogue is not None and name != _IN_CATALOGUE:
            return self.root / "tables" / name
        return within(self.tables, name)

    @property
    def catalogue(self) -> str | None:
        """`catalog.schema` when agent_messages is in Unity Catalog, where Spark writes it."""
        tables = self.tables
        return tables.removeprefix(UNITY) if isinstance(tables, str) and tables.startswith(UNITY) else None

    @property
    def beside(self) -> Path:
        """What we keep of a table that is in Unity Catalog: written states, which Spark has no place for."""
        return self.root / "tables" / _IN_CATALOGUE

    @property
    def noted_tables(self) -> str | None:
        """The URL that `tailrace init` noted; None when the tables are in the home."""
        try:
            return self.tables_note.read_text().strip() or None
        except FileNotFoundError:
            return None

    @property
    def tables_note(self) -> Path:
        return self.root / "tables.url"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def warehouse(self) -> Path:
        return self.root / "warehouse"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """One locked file a running agent: the lock is gone when the process is, however it ended."""
        return self.root / "run"

    @property
    def exists(self) -> bool:
        return (self.keys / "keyring.json").exists() and self.has_log

    @property
    def has_log(self) -> bool:
        """Asks the object store when the tables are in one. Of a catalogue, what init noted: asking it takes Spark."""
        if self.catalogue is not None:
            return self.noted_tables == str(self.tables)
        table = self.table("agent_messages")
        if isinstance(table, Path):
            return (table / "_delta_log").exists()
        from bus.log.object_store import open_store

        store = open_store(table)
        return any(store.exists(f"_delta_log/{name}") for name in (f"{0:020d}.json", "_last_checkpoint"))
