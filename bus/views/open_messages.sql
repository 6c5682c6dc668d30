-- What waits for an agent: addressed to it, or published while it subscribed to the kind, and without its receipt.
WITH
subscriptions AS (
  SELECT from_agent AS agent, get_json_object(content, '$.subscribes') AS kinds, place AS since,
    lead(place) OVER (PARTITION BY from_agent ORDER BY place) AS until
  FROM valid_messages
  WHERE message_type = 'event' AND kind = 'InstanceChanged'
    AND get_json_object(content, '$.step') = 'started' AND get_json_object(content, '$.agent') = from_agent
),
owed AS (
  SELECT *, to_agent AS agent FROM valid_messages
  WHERE message_type <> 'receipt' AND to_agent <> '' AND to_agent <> '*' AND to_agent NOT LIKE 'user:%'
  UNION ALL
  SELECT m.*, s.agent FROM valid_messages m
  JOIN subscriptions s ON m.place > s.since AND (s.until IS NULL OR m.place < s.until)
    AND instr(s.kinds, concat('"', m.kind, '"')) > 0
  WHERE m.message_type <> 'receipt' AND m.to_agent = '*'
)
SELECT o.message_id, o.agent, o.correlation_id, o.kind, o.from_agent, o.principal, o.priority, o.attempt,
  o.timestamp AS sent_at, o.not_before, o.expires_at, o.log_version, o.seq
FROM owed o
LEFT JOIN valid_messages r
  ON r.message_type = 'receipt' AND r.causation_id = o.message_id AND r.from_agent = o.agent
WHERE r.message_id IS NULL
