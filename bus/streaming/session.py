"""The local Spark session: Delta's JARs from where set-up kept them, tuned for one machine and small batches."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pyspark.sql import SparkSession

#: PyPI's delta-spark 4.4.0 and this artifact are one release; 4.4.1 on PyPI asks for a JAR that does not exist.
DELTA_COORDINATES = "io.delta:delta-spark_4.2_2.13:4.4.0"


class JarsMissing(RuntimeError):
    """Delta's JARs were never fetched. Remedy: `make setup` (once, needs the network)."""


def jars_folder() -> Path:
    """`TAILRACE_JARS`, or a folder inside the virtual environment, so that both share one life."""
    return Path(os.environ.get("TAILRACE_JARS") or Path(sys.prefix) / "jars" / DELTA_COORDINATES.replace(":", "_"))


def spark_session(app_name: str, cores: int = 2, conf: Mapping[str, str] | None = None) -> SparkSession:
    """Start (or get) the process's session. Raises JarsMissing before the JVM would fail obscurely."""
    # Delta's own JARs only: what they depend on, Spark ships in the version it needs.
    jars = sorted(jars_folder().glob("io.delta_*.jar"))
    if not jars:
        raise JarsMissing(f"no Delta JARs in {jars_folder()}: run `make setup` once, with a network")
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    builder = SparkSession.builder.master(f"local[{cores}]").appName(app_name)
    settings = {
        # On the class path of the driver: `spark.jars` would copy each file to a file server first.
        "spark.driver.extraClassPath": ":".join(str(jar) for jar in jars),
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.shuffle.partitions": str(cores),
        "spark.databricks.delta.snapshotPartitions": "1",
        # Without native Hadoop the checksummed local file system starts a process for every chmod.
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
        "spark.hadoop.fs.AbstractFileSystem.file.impl": "org.apache.hadoop.fs.local.RawLocalFs",
        **(conf or {}),
    }
    for key, value in settings.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session
