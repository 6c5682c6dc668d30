"""Starts Spark for the sandbox: one machine, little memory, nothing on the network, nothing remembered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyspark.errors import PySparkException

from bus.streaming.session import JarsMissing, spark_session
from workers.adapters.sandbox.executor import Executor
from workers.ports import StatementFailed


def start_executor(settings: dict[str, Any]) -> Executor:
    """Raises StatementFailed with what to do about it."""
    scratch = Path(settings["scratch"])
    try:
        spark = spark_session("tailrace execution", settings["cores"], _conf(settings, scratch))
    except JarsMissing as error:
        raise StatementFailed(f"the engine did not start: {error}") from error
    except (PySparkException, FileNotFoundError) as error:
        raise StatementFailed(
            "the engine did not start: no working Java 17 or 21 was found. "
            "Install one (`make setup` does), or set JAVA_HOME to it."
        ) from error
    return Executor(
        spark, Path(settings["home"]), settings["schemas"], scratch, settings["writable"], settings["tried_bytes"]
    )


def _conf(settings: dict[str, Any], scratch: Path) -> dict[str, str]:
    java = [
        f"-Djava.io.tmpdir={scratch}",
        f"-Duser.home={scratch}",
        "-XX:-UsePerfData",  # would write below /tmp
        "-XX:+ExitOnOutOfMemoryError",  # a JVM that lost a thread to it answers wrongly or never
    ]
    return {
        "spark.driver.memory": settings["memory"],
        "spark.driver.extraJavaOptions": " ".join(f'"{option}"' for option in java),
        "spark.local.dir": str(scratch),
        "spark.sql.warehouse.dir": str(scratch / "spark-warehouse"),
        "spark.sql.catalogImplementation": "in-memory",
        # A path is no table name, and `${env:...}` no way to read the environment.
        "spark.sql.runSQLOnFiles": "false",
        "spark.sql.variable.substitute": "false",
        # A plan that changes while it runs cannot be approved.
        "spark.sql.adaptive.enabled": "false",
        # Skipping files by statistics starts a Spark job for each table, in the dry run too; these tables are small.
        "spark.databricks.delta.stats.skipping": "false",
        "spark.sql.cbo.enabled": "false",
        "spark.driver.maxResultSize": "256m",
        # Readers other than Spark see the same times, and a stage's files compare with those of its table.
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        # A row that is gone is gone from a new file; a vector of deleted rows is nothing that is published.
        "spark.databricks.delta.properties.defaults.enableDeletionVectors": "false",
    }
