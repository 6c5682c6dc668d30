-- Every audit fact, in its writer's chain (agents state them; what a person's key signed is none): what was decided or done, by which rule of which policy, on whose behalf.
-- The state it was decided on is agent_messages WHERE log_version < log_version of the fact.
SELECT log_version, seq, timestamp AS recorded_at,
  get_json_object(content, '$.writer') AS writer,
  CAST(get_json_object(content, '$.sequence') AS BIGINT) AS sequence,
  from_agent AS agent, principal,
  get_json_object(content, '$.action') AS action,
  get_json_object(content, '$.decision') AS decision,
  get_json_object(content, '$.rule') AS rule,
  get_json_object(content, '$.reason') AS reason,
  get_json_object(content, '$.details.policy') AS policy,
  get_json_object(content, '$.details') AS details,
  correlation_id, causation_id, message_id, key_id, date
FROM valid_messages
WHERE message_type = 'event' AND kind = 'AuditRecorded' AND from_agent NOT LIKE 'user:%'
