"""Python and PySpark as an engine: code runs in a process that has no network, no keys and no table but copies."""
