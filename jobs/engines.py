"""What runs approved code: SQL on Spark of this machine or on a warehouse, Python and PySpark in a sandbox, undo."""

from __future__ import annotations

from collections.abc import Sequence

from bus.home import Home
from config.settings import Settings
from workers.adapters.engines import Engines, SqlEngine
from workers.ports import Engine


def execution_engine(settings: Settings, home: Home) -> Engine:
    """By language. Raises ConfigError when a warehouse is wanted and not all is said that it needs."""
    if settings.sql_engine == "warehouse":
        from jobs.databricks import warehouse_engine

        # Code is given copies of this home's tables, and these are elsewhere.
        return Engines({"sql": warehouse_engine(settings)})
    from workers.adapters.code_sandbox.engine import CodeSandbox
    from workers.adapters.sandbox.engine import SparkSandbox
    from workers.adapters.sandbox.restoring import RestoreEngine

    schemas = _schemas(settings)
    sql = SparkSandbox(
        home.root,
        timeout_s=settings.run_timeout_s,
        schemas=schemas,
        writable=settings.writable_schemas,
        tried_bytes=settings.tried_mib * 1024 * 1024,
    )
    code = CodeSandbox(home.root)
    undo = RestoreEngine(home.root, schemas, settings.writable_schemas)
    return Engines({"sql": SqlEngine(sql), "python": code, "pyspark": code, "restore": undo})


def _schemas(settings: Settings) -> Sequence[str]:
    """The sample's, and those that may be written."""
    from workers.adapters.sandbox.names import SCHEMAS

    return tuple(dict.fromkeys((*SCHEMAS, *settings.writable_schemas)))
