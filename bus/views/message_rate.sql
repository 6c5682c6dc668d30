-- Messages a minute, by the time their senders wrote.
SELECT date_trunc('minute', timestamp) AS minute, count(*) AS row_count,
  sum(CASE WHEN message_type = 'request' THEN 1 ELSE 0 END) AS request_count,
  sum(CASE WHEN message_type = 'response' THEN 1 ELSE 0 END) AS response_count,
  sum(CASE WHEN message_type = 'event' THEN 1 ELSE 0 END) AS event_count,
  sum(CASE WHEN message_type = 'receipt' THEN 1 ELSE 0 END) AS receipt_count,
  count(DISTINCT log_version) AS commit_count
FROM valid_messages
GROUP BY date_trunc('minute', timestamp)
