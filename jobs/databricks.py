"""What is Databricks', from the settings: its SQL warehouse as an engine."""

from __future__ import annotations

from config.files import ConfigError
from config.settings import Settings
from workers.ports import Engine


def warehouse_engine(settings: Settings) -> Engine:
    """Raises ConfigError naming what is missing."""
    if settings.warehouse_id is None:
        raise ConfigError("sql_engine is warehouse, and no warehouse is named: set TAILRACE_WAREHOUSE_ID")
    try:
        from databricks.sdk import WorkspaceClient
    except ImportError as error:
        raise ConfigError(
            "sql_engine is warehouse, but the Databricks SDK is not installed: pip install 'tailrace[databricks]'"
        ) from error
    from workers.adapters.databricks.history import query_history
    from workers.adapters.databricks.statements import Statements
    from workers.adapters.databricks.warehouse import WarehouseEngine

    token = settings.databricks_token
    # Without a host and a token the SDK finds its own: a profile, the job it runs in.
    client = WorkspaceClient(host=settings.databricks_host, token=token.get_secret_value() if token else None)
    statements = Statements(
        client,
        settings.warehouse_id,
        catalog=settings.catalog_name,
        schema=settings.schema_name,
        timeout_s=settings.run_timeout_s,
    )
    history = query_history(client, settings.warehouse_id)
    return WarehouseEngine(
        statements, statements, history, grant_ttl_s=settings.grant_ttl_s, scratch=settings.warehouse_scratch
    )
