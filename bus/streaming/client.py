"""What a client opens where the tables are in Unity Catalog: it appends and follows through a Spark session."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from bus.audit import AuditChain
from bus.errors import StoreUnavailable
from bus.flow import Flow
from bus.home import Home
from bus.keys import Signer
from bus.log.seal import SigningSeal
from bus.log.store import LocalStore
from bus.logs import quiet_unless_configured
from bus.redaction import Redactor
from bus.session import Opened
from bus.streaming.spark_bus import SparkBus
from bus.streaming.spark_log import SparkLog, SparkPast
from bus.streaming.spark_table import SparkTable
from bus.trusted import TrustedNow
from schemas.envelope import USER
from schemas.tables import AGENT_MESSAGES

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from bus.opening import Options


def session() -> SparkSession:
    """A session of our own of the Spark that is at hand: the cluster's, or the remote one that SPARK_REMOTE names.

    Raises StoreUnavailable when there is none that answers.
    """
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    try:
        found = SparkSession.getActiveSession() or SparkSession.builder.getOrCreate()
    except (PySparkException, ImportError, RuntimeError) as error:
        raise StoreUnavailable(
            f"tables in Unity Catalog are reached through Spark, and none is at hand ({str(error).strip().splitlines()[0]}): "
            "run this on a cluster, or let SPARK_REMOTE name one"
        ) from error
    # Of a remote one every process has its own anyway.
    return found if is_remote(found) else found.newSession()


def is_remote(spark: SparkSession) -> bool:
    """Whether it is Spark Connect, which runs no code of ours beside the data."""
    return type(spark).__module__.startswith("pyspark.sql.connect")


def messages_table(home: Home, spark: SparkSession | None = None) -> SparkTable:
    """agent_messages of a home whose tables are in Unity Catalog."""
    return SparkTable(spark or session(), f"{home.catalogue}.{AGENT_MESSAGES.name}")


def messages_log(home: Home, table: SparkTable) -> SparkLog:
    """The same, read as a log; what is kept beside it lies in the home."""
    return SparkLog(table, LocalStore(home.beside), f"{home.tables}.{AGENT_MESSAGES.name}")


def open_catalogue(home: Home, options: Options, table: SparkTable | None = None) -> Opened:
    """For one user. Raises LogMissing, MissingKey, Untrusted, ForeignLog, or StoreUnavailable without a Spark."""
    quiet_unless_configured()
    table = table or messages_table(home)
    table_id = table.check()
    signer = Signer.load(home.keys, [USER + options.user], table_id, options.environment)
    trusted = TrustedNow(home.keys, table_id, options.environment)
    chain = AuditChain(f"client-{uuid.uuid4().hex[:8]}")
    seal = SigningSeal(signer, chain, options.redactor or Redactor.of_secrets())
    bus = SparkBus(table, seal=seal, follow_only=True, accept=trusted.accepts)
    log = messages_log(home, table)
    return Opened(bus, SparkPast(log), trusted.accepts, trusted.knows, trusted.agents, Flow(log.store), remote=True)
