"""Sending into Unity Catalog without Spark, through Zerobus: signed for the table that init noted, and never read back."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from bus.audit import AuditChain
from bus.compose import Composer
from bus.errors import LogMissing
from bus.keys import Signer
from bus.log.seal import SigningSeal
from bus.zerobus import ZerobusProducer, connect
from config.files import ConfigError
from schemas.envelope import USER, Message
from schemas.payloads import Payload
from schemas.tables import AGENT_MESSAGES
from workers.runtime.clock import micros

if TYPE_CHECKING:
    from jobs.bootstrap import System


def send_through_zerobus(system: System, user: str, to: str, payload: Payload, **envelope: Any) -> Message:
    """One message, durable when this returns. Raises ConfigError, LogMissing, MissingKey, StoreUnavailable or NotAcknowledged."""
    composer = Composer(user, lambda: micros(system.clock.now()))
    message = composer.message(to, payload, **envelope)
    producer = producer_of(system, user)
    try:
        producer.send_many([message])
    finally:
        producer.close()
    return message


def producer_of(system: System, user: str) -> ZerobusProducer:
    """One that signs for this user. Opens nothing before something is sent."""
    settings = system.settings
    secret = settings.databricks_client_secret
    needed = {
        "TAILRACE_ZEROBUS_ENDPOINT": settings.zerobus_endpoint,
        "DATABRICKS_HOST": settings.databricks_host,
        "DATABRICKS_CLIENT_ID": settings.databricks_client_id,
        "DATABRICKS_CLIENT_SECRET": secret and secret.get_secret_value(),
    }
    if missing := [name for name, value in needed.items() if not value]:
        raise ConfigError(f"Zerobus needs {', '.join(missing)}: a service principal with MODIFY on the table")
    try:
        table_id = system.unity.noted_id.read_text().strip()
    except FileNotFoundError as error:
        raise LogMissing(f"this home does not know the id of {system.home.tables}: run `tailrace init` once") from error
    signer = Signer.load(system.home.keys, [USER + user], table_id, settings.env)
    seal = SigningSeal(signer, AuditChain(f"client-{uuid.uuid4().hex[:8]}"), system.redactor)
    endpoint, host, client_id, client_secret = map(str, needed.values())
    table = f"{system.unity_schema}.{AGENT_MESSAGES.name}"
    return ZerobusProducer(connect(endpoint, host, table, client_id, client_secret), seal, system.clock.now)
