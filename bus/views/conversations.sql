-- One row a conversation: who began it with what, how long it took, and what is still open or dead in it.
WITH
told AS (
  SELECT correlation_id, min(place) AS root, count(*) AS message_count,
    min(timestamp) AS began_at, max(timestamp) AS last_at,
    (unix_micros(max(timestamp)) - unix_micros(min(timestamp))) / 1000.0 AS elapsed_ms
  FROM valid_messages WHERE message_type <> 'receipt' GROUP BY correlation_id
),
settled AS (
  SELECT correlation_id, count(*) AS receipt_count,
    sum(CASE WHEN outcome = 'dead' THEN 1 ELSE 0 END) AS dead_count, sum(handled_ms) AS handled_ms
  FROM receipts GROUP BY correlation_id
),
waiting AS (
  SELECT correlation_id, count(*) AS open_count FROM open_messages GROUP BY correlation_id
)
SELECT t.correlation_id, r.from_agent AS begun_by, r.principal, r.to_agent AS asked, r.kind, r.content AS question,
  t.began_at, t.last_at, t.elapsed_ms, s.handled_ms, t.message_count,
  coalesce(s.receipt_count, 0) AS receipt_count, coalesce(w.open_count, 0) AS open_count,
  coalesce(s.dead_count, 0) AS dead_count
FROM told t
JOIN valid_messages r ON r.place = t.root
LEFT JOIN settled s ON s.correlation_id = t.correlation_id
LEFT JOIN waiting w ON w.correlation_id = t.correlation_id
