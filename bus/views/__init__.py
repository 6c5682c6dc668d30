"""The SQL that auditors and dashboards query."""
