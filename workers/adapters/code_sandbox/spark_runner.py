"""Inside the walls: a small Spark without Delta, over copies of the declared tables, its parts talking over their own loopback."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def start(engine: Mapping[str, Any], work: Path) -> Any:
    """The session; `engine` says where Java and its archive of classes are, and how much Spark may take."""
    import pyspark
    from pyspark.sql import SparkSession

    os.environ.update(
        SPARK_HOME=str(Path(pyspark.__file__).parent),
        PYSPARK_PYTHON=sys.executable,
        SPARK_LOCAL_IP="127.0.0.1",
        JAVA_HOME=engine["java_home"],
        SPARK_LAUNCHER_OPTS="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto -XX:-UsePerfData",
    )
    (work / "log4j2.properties").write_text(engine["logging"])
    builder = SparkSession.builder
    for key, value in settings(engine, work).items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def settings(engine: Mapping[str, Any], work: Path) -> dict[str, str]:
    java = [
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-Xshare:auto",
        *([f"-XX:SharedArchiveFile={engine['archive']}"] if engine["archive"] else []),
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
        "spark.driver.extraJavaOptions": " ".join(f'"{option}"' for option in java),
        "spark.driver.extraClassPath": engine["class_path"],
        "spark.driver.maxResultSize": "256m",
        "spark.local.dir": str(work),
        "spark.sql.warehouse.dir": str(work / "warehouse"),
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(engine["cores"]),
        # Compiling Java for each query costs more than interpreting it over a few thousand rows.
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.execution.pythonUDF.arrow.enabled": "false",  # it wants pandas, and warns
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    }
