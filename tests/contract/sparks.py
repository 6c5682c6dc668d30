"""One Spark session for every test of a run that needs one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """Skips where Spark cannot start; in CI that is a failure."""
    from bus.streaming.session import spark_session

    try:
        session = spark_session("tailrace-tests")
    except Exception as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"Spark does not start here: {error}")
    yield session
    session.stop()
