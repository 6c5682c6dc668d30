"""A process with a Spark of its own that kills itself: between the append and the acknowledgement."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from bus.streaming.session import spark_session
from bus.streaming.spark_bus import SparkBus
from bus.streaming.spark_table import SparkTable
from tests.contract.harness import Ping, message


class Killing(SparkTable):
    def append(self, *args: Any) -> None:
        super().append(*args)
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    folder, message_id = sys.argv[1:]
    spark = spark_session("tailrace-killed", cores=1)
    spark.sql(f"CREATE DATABASE killed LOCATION '{folder}'")
    spark.sql(f"CREATE TABLE killed.agent_messages USING DELTA LOCATION '{folder}/agent_messages'")
    bus = SparkBus(Killing(spark, "spark_catalog.killed.agent_messages"))
    bus.submit([message(Ping(n=1), message_id=message_id)]).result()
    sys.stdout.write("acknowledged\n")


if __name__ == "__main__":
    main()
