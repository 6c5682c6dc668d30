"""The archive of Java's loaded classes that lets Spark start in half the time: where it lies, and how set-up makes it.

It is never needed: without it, or with one of another Java, the virtual machine loads every class the slow way.
"""

from __future__ import annotations

import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from bus.streaming.jars import JarsMissing, archive_path
from bus.streaming.session import spark_session


def make_archive() -> Path | None:
    """Run a session that does once what we do later, and let Java keep the classes it loaded."""
    archive = archive_path()
    if archive is None or archive.is_file():
        return archive
    for outdated in archive.parent.glob("classes-*.jsa"):
        outdated.unlink()
    unfinished = archive.with_suffix(f".{os.getpid()}")
    try:
        with tempfile.TemporaryDirectory() as work:
            conf = {
                "spark.driver.extraJavaOptions": f'"-XX:ArchiveClassesAtExit={unfinished}"',
                "spark.sql.warehouse.dir": f"{work}/warehouse",
            }
            spark = spark_session("class archive", conf=conf)
            rehearse(spark, Path(work))
            gateway = spark.sparkContext._gateway
            spark.stop()
            gateway.shutdown()
            gateway.proc.stdin.close()
            gateway.proc.wait(timeout=120)
        unfinished.replace(archive)
    finally:
        unfinished.unlink(missing_ok=True)
    return archive


def rehearse(spark, work: Path) -> None:
    """Touch what hosts and agents use: Delta tables written and read, SQL with its plan, a stream with foreachBatch."""
    table, joined = str(work / "messages"), str(work / "joined")
    rows = [(number, f"agent {number % 3}", datetime(2026, 1, 1 + number, tzinfo=UTC)) for number in range(8)]
    frame = spark.createDataFrame(rows, "id long, agent string, at timestamp")
    frame.write.format("delta").partitionBy("agent").save(table)
    frame.write.format("delta").mode("append").save(table)
    spark.read.format("delta").load(table).createOrReplaceTempView("messages")
    frame.write.parquet(str(work / "parquet"))
    spark.read.parquet(str(work / "parquet")).createOrReplaceTempView("files")
    spark.sql("CREATE SCHEMA IF NOT EXISTS rehearsal")
    query = """
        WITH per_agent AS (
            SELECT f.agent, date_trunc('month', f.at) AS month, sum(f.id * (1 - 0.1)) AS total,
                   count(DISTINCT m.id) AS n
            FROM files f JOIN messages m ON f.id = m.id LEFT JOIN messages o ON o.id = f.id + 1
            WHERE f.at >= DATE '2026-01-01' AND year(f.at) = 2026 AND f.agent LIKE 'agent%' AND f.id IN (1, 2, 3, 4, 5)
            GROUP BY f.agent, date_trunc('month', f.at)
        )
        SELECT *, rank() OVER (PARTITION BY month ORDER BY total DESC) AS place, CAST(total AS DECIMAL(18, 2)) AS exact,
               CASE WHEN total > 3 THEN 'much' ELSE 'little' END AS size
        FROM per_agent ORDER BY total DESC LIMIT 10
    """
    for statement in (query, f"EXPLAIN FORMATTED {query}", "SHOW TABLES", f"DESCRIBE HISTORY delta.`{table}`"):
        spark.sql(statement).collect()
    spark.sql(f"CREATE OR REPLACE TABLE rehearsal.saved USING delta LOCATION '{joined}' AS {query}")
    spark.read.format("delta").option("versionAsOf", 0).load(joined).toArrow()

    seen: list[int] = []
    stream = spark.readStream.format("delta").option("startingVersion", 0).option("maxFilesPerTrigger", 100).load(table)
    running = (
        stream.writeStream.foreachBatch(lambda batch, _: seen.append(len(batch.toArrow())))
        .option("checkpointLocation", str(work / "checkpoint"))
        .trigger(processingTime="0 seconds")
        .start()
    )
    try:
        for _ in range(3):
            running.processAllAvailable()
            frame.limit(1).write.format("delta").mode("append").save(table)
        running.processAllAvailable()
    finally:
        running.stop()


def main() -> int:
    """Make the archive; a failure is worth a line, never a stop."""
    try:
        made = make_archive()
    except JarsMissing as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0 if made else 1


if __name__ == "__main__":
    sys.exit(main())
