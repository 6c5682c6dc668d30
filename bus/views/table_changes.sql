-- What changed in business tables: the version before and after, and on whose word. Compare them with
-- SELECT * FROM t VERSION AS OF table_version EXCEPT ALL SELECT * FROM t VERSION AS OF table_version_before.
SELECT target AS table_name, table_version_before, table_version, row_count, ended_at AS changed_at, grant_id, requester,
  approved_by, rule, code, undoes, correlation_id, settled_version
FROM governed_executions
WHERE status = 'done' AND target IS NOT NULL
