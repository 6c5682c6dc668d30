"""The local Spark session: Delta's JARs from where set-up kept them, tuned for one machine and small batches."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import IO

import pyspark
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

from bus.streaming.jars import DELTA_COORDINATES, JarsMissing, archive_path, jar_paths, jars_folder, java_home

__all__ = ["DELTA_COORDINATES", "JarsMissing", "jars_folder", "spark_session"]

#: Lines of the virtual machine that say nothing: Spark always asks for the vector module.
NOISE = (b"WARNING: Using incubator modules: jdk.incubator.vector",)

#: For short work on one machine, starting soon beats running long: only the quick compiler and the plain collector.
JAVA_OPTIONS = [
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xshare:auto",
    # The virtual machine warns on standard output, which belongs to answers.
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
]


def spark_session(app_name: str, cores: int = 2, conf: Mapping[str, str] | None = None) -> SparkSession:
    """Start (or get) the process's session. `conf` wins, except that Java options are added to ours.

    Raises JarsMissing before the virtual machine would fail obscurely.
    """
    settings = {**session_settings(app_name, cores), **(conf or {})}
    options = (conf or {}).get("spark.driver.extraJavaOptions", "")
    settings["spark.driver.extraJavaOptions"] = " ".join([*java_options(), options]).strip()
    start_java(settings)
    builder = SparkSession.builder
    for key, value in settings.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


def session_settings(app_name: str, cores: int) -> dict[str, str]:
    """What every local session is started with."""
    return {
        "spark.app.name": app_name,
        "spark.master": f"local[{cores}]",
        # On the class path of the driver: `spark.jars` would copy each file to a file server first.
        "spark.driver.extraClassPath": os.pathsep.join(str(jar) for jar in jar_paths()),
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.shuffle.partitions": str(cores),
        "spark.databricks.delta.snapshotPartitions": "1",
        # Compiling Java for each query costs more than interpreting it over a few thousand rows.
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        # Without native Hadoop the checksummed local file system starts a process for every chmod.
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
        "spark.hadoop.fs.AbstractFileSystem.file.impl": "org.apache.hadoop.fs.local.RawLocalFs",
    }


def java_options() -> list[str]:
    """Quoted for the launcher, which splits at blanks outside double quotes."""
    options = [*JAVA_OPTIONS, f"-Dlog4j2.configurationFile={files('bus.streaming') / 'log4j2.properties'}"]
    archive = archive_path()
    if archive and archive.is_file():
        options.append(f"-XX:SharedArchiveFile={archive}")
    return [f'"{option}"' for option in options]


def start_java(settings: Mapping[str, str]) -> None:
    """Start the virtual machine the way set-up arranged it, unless this process already has one."""
    if SparkContext._gateway is not None:
        return
    # Another Spark, Python or Java on this machine must not be mixed with those that set-up chose.
    os.environ["SPARK_HOME"] = str(Path(pyspark.__file__).parent)
    os.environ["PYSPARK_PYTHON"] = sys.executable
    if home := java_home():
        os.environ["JAVA_HOME"] = str(home)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("SPARK_LAUNCHER_OPTS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto")
    conf = SparkConf(loadDefaults=False).setAll(list(settings.items()))
    heard, said = os.pipe()
    listener = threading.Thread(target=forward, args=(os.fdopen(heard, "rb"),), name="java-output", daemon=True)
    listener.start()
    try:
        gateway = launch_gateway(conf, {"stdout": said, "stderr": said})
    except PySparkRuntimeError:
        os.close(said)
        listener.join(timeout=5)  # what Java said comes before the exception
        raise
    os.close(said)
    SparkContext(conf=conf, gateway=gateway)


def forward(heard: IO[bytes]) -> None:
    """Pass on what the virtual machine says, to standard error only, without its noise."""
    with heard:
        for line in heard:
            if line.rstrip() not in NOISE:
                os.write(2, line)
