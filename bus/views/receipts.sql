-- Every handling: the message, the receipt that counts for it, and what the receipt says.
SELECT
  m.message_id, r.from_agent AS agent, m.correlation_id, m.kind, m.from_agent, m.principal, m.attempt,
  get_json_object(r.content, '$.outcome') AS outcome,
  get_json_object(r.content, '$.reason') AS reason,
  CAST(get_json_object(r.content, '$.attempts') AS INT) AS attempts,
  CAST(get_json_object(r.content, '$.handled_ms') AS DOUBLE) AS handled_ms,
  (unix_micros(r.timestamp) - unix_micros(m.timestamp)) / 1000.0 AS elapsed_ms,
  m.timestamp AS sent_at, r.timestamp AS settled_at, r.message_id AS handling_id,
  m.log_version AS sent_version, r.log_version AS settled_version, m.date
FROM valid_messages r
JOIN valid_messages m ON m.message_id = r.causation_id AND m.message_type <> 'receipt'
WHERE r.message_type = 'receipt'
