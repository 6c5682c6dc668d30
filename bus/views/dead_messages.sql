-- Messages that were given up, with the reason and what they said.
SELECT r.message_id, r.agent, r.correlation_id, r.kind, r.from_agent, r.principal, r.attempt, r.attempts, r.reason,
  r.sent_at, r.settled_at, r.settled_version, m.content
FROM receipts r
JOIN valid_messages m ON m.message_id = r.message_id AND m.message_type <> 'receipt'
WHERE r.outcome = 'dead'
