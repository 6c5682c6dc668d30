"""Makes a home: keys, tables, the TPC-H sample as Delta tables, the sample knowledge. What is there is kept."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bus.home import Home
from bus.keys import create_keys
from bus.log.object_store import check_url
from jobs.agents import AGENTS, UPKEEP, key_of, own_agent
from jobs.bootstrap import System
from schemas.envelope import USER
from schemas.tables import AGENT_MESSAGES, KNOWLEDGE_CHUNKS, KNOWLEDGE_DOCUMENTS, TABLES
from workers.runtime.clock import micros

Say = Callable[[str], None]

#: Schema of the sample's business tables.
SAMPLE = "tpch"


_SCHEMA = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class InitFailed(RuntimeError):
    """A step of `tailrace init` failed; what was made so far is kept, and a second try goes on from there."""


def initialise(system: System, say: Say, scale: float = 0.01, own_agents: Sequence[str] = ()) -> None:
    """Idempotent. `scale`: TPC-H scale factor, 1 is about a gigabyte of text.

    `own_agents`: `module:Class` of agents that get a key beside those that are there.
    """
    home = system.home
    _settle_tables(system)
    for folder in (home.warehouse, home.checkpoints, home.logs, home.run):
        folder.mkdir(parents=True, exist_ok=True)
    say("keys")
    create_keys(home.keys, _holders(system, own_agents), micros(system.clock.now()))
    for name in TABLES:
        if name == AGENT_MESSAGES.name and system.unity_schema is not None:
            system.unity.create(say)
            continue
        say(f"table {name}")
        system.log(name).create()
    _note_tables(home)
    say("knowledge")
    _ingest(system)
    if not all((home.warehouse / SAMPLE / table).exists() for table in SAMPLE_TABLES):
        say(f"sample data: TPC-H at scale {scale:g}")
        load_sample(home.warehouse / SAMPLE, scale)


def _settle_tables(system: System) -> None:
    """Where the tables are is decided once: another place would be another bus under the same keys."""
    home = system.home
    before = home.noted_tables or (
        str(home.root / "tables") if (home.root / "tables" / AGENT_MESSAGES.name / "_delta_log").exists() else None
    )
    if before is not None and before != str(home.tables):
        raise InitFailed(f"this home has its tables at {before}, not at {home.tables}; choose another TAILRACE_HOME")
    if isinstance(home.tables, Path):
        home.tables.mkdir(parents=True, exist_ok=True)
    else:
        if home.catalogue is None:
            check_url(home.tables)
        elif not _SCHEMA.fullmatch(home.catalogue):
            raise InitFailed(f"{home.tables} names no schema of a catalogue: expected uc://catalog.schema")
        there = home.has_log if home.catalogue is None else system.unity.exists
        if not (home.keys / "keyring.json").exists() and there:
            raise InitFailed(
                f"the tables at {home.tables} are another home's, and new keys could not read what was signed there; "
                f"copy that home's keyring.json, root.pub and the private keys this machine needs to {home.keys} first"
            )
        home.root.mkdir(parents=True, exist_ok=True)


def _note_tables(home: Home) -> None:
    """Once they are there: a place that was misspelt is not kept."""
    if not isinstance(home.tables, Path):
        home.tables_note.write_text(f"{home.tables}\n")


def _holders(system: System, own_agents: Sequence[str]) -> dict[str, list[str]]:
    """Key id -> whom it speaks for: one key a host, one a person."""
    holders: dict[str, list[str]] = {"upkeep": [UPKEEP]}
    for agent in (*AGENTS, *map(own_agent, own_agents)):
        holders.setdefault(key_of(agent), []).append(agent.name)
    for user in system.users:
        holders[f"user-{user}"] = [USER + user]
    return holders


def _ingest(system: System) -> None:
    from config import files
    from workers.adapters.knowledge.store import KnowledgeStore

    store = KnowledgeStore(system.log(KNOWLEDGE_DOCUMENTS.name), system.log(KNOWLEDGE_CHUNKS.name))
    store.ingest([(name.removesuffix(".md"), files.text(f"knowledge/{name}")) for name in files.names("knowledge")])


SAMPLE_TABLES = ("customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier")


def load_sample(schema: Path, scale: float) -> None:
    """TPC-H tables as Delta tables below `schema`. Raises InitFailed."""
    import pyarrow.parquet as pq
    from deltalake import write_deltalake

    generator = Path(sys.executable).with_name("tpchgen-cli")
    with tempfile.TemporaryDirectory() as scratch:
        command = [str(generator), "parquet", "-s", f"{scale:g}", f"--output-dir={scratch}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise InitFailed(f"{generator.name} failed: {done.stderr.strip()[-500:]}")
        for table in SAMPLE_TABLES:
            write_deltalake(str(schema / table), pq.read_table(Path(scratch) / f"{table}.parquet"), mode="ignore")
