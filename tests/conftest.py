"""What every test gets: an environment of its own, and marks from the folder it lies in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.lakehouses import lakehouse, spark_sandbox

__all__ = ["lakehouse", "spark_sandbox"]

#: Folder -> the mark of every test in it; `make test` chooses by marks.
MARKED = {"integration": pytest.mark.integration, "acceptance": pytest.mark.acceptance}

#: Variables that say where the machine keeps things, not how Tailrace should behave.
KEPT = {"TAILRACE_JARS", "TAILRACE_IVY_SETTINGS"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test in tests/integration starts Spark, whether it says so or not."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            mark = MARKED.get(item.path.relative_to(here).parts[0])
            if mark is not None:
                item.add_marker(mark)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own workspace, endpoints and home stay out of every test."""
    plain = {"DATABRICKS_HOST", "DATABRICKS_TOKEN", "CATALOG_NAME", "SCHEMA_NAME", "VECTOR_ENDPOINT", "LLM_ENDPOINT"}
    for name in list(os.environ):
        if name in plain or (name.startswith("TAILRACE_") and name not in KEPT):
            monkeypatch.delenv(name)
