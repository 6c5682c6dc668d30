"""The layout of TAILRACE_HOME: where tables, keys, business data and traces of running processes live."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """Paths only; making them is `tailrace init`'s work."""

    root: Path

    @property
    def tables(self) -> Path:
        return self.root / "tables"

    def table(self, name: str) -> Path:
        return self.tables / name

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
        return (self.keys / "keyring.json").exists() and (self.table("agent_messages") / "_delta_log").exists()
