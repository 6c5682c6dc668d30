from pathlib import Path

import pytest

from tests.lakehouses import SECRET
from workers.adapters.sandbox.engine import SparkSandbox

__all__ = ["SECRET"]


@pytest.fixture(scope="session")
def home(lakehouse: Path) -> Path:
    """A home with the sample's eight tables, and with keys and bus tables that nobody may read."""
    return lakehouse


@pytest.fixture(scope="session")
def sandbox(spark_sandbox: SparkSandbox) -> SparkSandbox:
    """One engine for all tests."""
    return spark_sandbox
