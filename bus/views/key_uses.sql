-- Which key signed for whom: first and last time, and how much. A key that nobody expects here, or not any more, stands out.
SELECT key_id, from_agent, min(timestamp) AS first_used_at, max(timestamp) AS last_used_at,
  min(log_version) AS first_version, max(log_version) AS last_version,
  count(*) AS row_count, count(DISTINCT log_version) AS commit_count, count(DISTINCT correlation_id) AS conversation_count
FROM valid_messages
GROUP BY key_id, from_agent
