-- What ran: every grant that was claimed, with the code, who asked, who approved, what was read, and how it ended.
SELECT grant_id, claimed_at AS began_at, settled_at AS ended_at,
  CAST(unix_micros(settled_at) - unix_micros(claimed_at) AS DOUBLE) / 1000 AS elapsed_ms,
  status, requester, question, approved_by, approvers, rule, policy, language, code, code_sha256, target, read_versions,
  table_version_before, table_version, row_count, executed_by, settled_by, proof, reason, undoes,
  approval_id, correlation_id, decided_version, claimed_version, settled_version
FROM grants
WHERE claimed_version IS NOT NULL
