-- How long each agent takes a kind: in its handler (handled_ms), and from sending to receipt (elapsed_ms).
SELECT agent, kind, count(*) AS receipt_count,
  sum(CASE WHEN outcome = 'handled' THEN 1 ELSE 0 END) AS handled_count,
  sum(CASE WHEN outcome = 'rejected' THEN 1 ELSE 0 END) AS rejected_count,
  sum(CASE WHEN outcome = 'expired' THEN 1 ELSE 0 END) AS expired_count,
  sum(CASE WHEN outcome = 'dead' THEN 1 ELSE 0 END) AS dead_count,
  percentile_cont(0.5) WITHIN GROUP (ORDER BY handled_ms) AS handled_ms_p50,
  percentile_cont(0.95) WITHIN GROUP (ORDER BY handled_ms) AS handled_ms_p95,
  percentile_cont(0.5) WITHIN GROUP (ORDER BY elapsed_ms) AS elapsed_ms_p50,
  percentile_cont(0.95) WITHIN GROUP (ORDER BY elapsed_ms) AS elapsed_ms_p95
FROM receipts
GROUP BY agent, kind
