"""Inside the walls: a small Spark without Delta, over copies of the declared tables, its parts talking over their own loopback."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: What Java has to say belongs to nobody's output, but its errors.
LOGGING = """
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %p %c: %m%n
"""


def start(engine: Mapping[str, Any], work: Path) -> Any:
    """The session; `engine` says where Java is, and how much Spark may take."""
    import pyspark
    from pyspark.sql import SparkSession

    os.environ.update(
        SPARK_HOME=str(Path(pyspark.__file__).parent),
        PYSPARK_PYTHON=sys.executable,
        SPARK_LOCAL_IP="127.0.0.1",
        JAVA_HOME=engine["java_home"],
        SPARK_LAUNCHER_OPTS="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto -XX:-UsePerfData",
    )
    (work / "log4j2.properties").write_text(LOGGING)
    builder = SparkSession.builder
    for key, value in settings(engine, work).items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def settings(engine: Mapping[str, Any], work: Path) -> dict[str, str]:
    java = [
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-Xshare:auto",
        "-XX:-UsePerfData",
        "-XX:+ExitOnOutOfMemoryError",
        f"-Djava.io.tmpdir={work}",
        f"-Duser.home={work}",
        f"-Dlog4j2.configurationFile={work}/log4j2.properties",
        "-Xlog:disable",
        "-Xlog:all=error:stderr",
    ]
    return {
        "spark.app.name": "sandbox",
        "spark.master": f"local[{engine['cores']}]",
        "spark.driver.memory": engine["memory"],
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraJavaOptions": " ".join(java),
        "spark.driver.maxResultSize": "256m",
        "spark.local.dir": str(work),
        "spark.sql.warehouse.dir": str(work / "warehouse"),
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(engine["cores"]),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    }
