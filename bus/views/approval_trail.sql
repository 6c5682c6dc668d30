-- Who was asked, who said what in whose place, and what governance made of it: one row a step, in the order of place.
-- signed_*: a person's own signed word. The other steps are governance's.
WITH
steps AS (
  SELECT *,
    CASE kind
      WHEN 'ApprovalRequested' THEN 'requested'
      WHEN 'Decide' THEN concat('signed_', get_json_object(content, '$.decision'))
      WHEN 'ApprovalVoted' THEN 'counted'
      WHEN 'ApprovalReminded' THEN 'reminded'
      WHEN 'ApprovalEscalated' THEN 'escalated'
      ELSE get_json_object(content, '$.decision')
    END AS step
  FROM valid_messages
  WHERE (from_agent = 'GovernanceAgent' AND message_type = 'event'
      AND kind IN ('ApprovalRequested', 'ApprovalVoted', 'ApprovalReminded', 'ApprovalEscalated', 'ApprovalDecided'))
    OR (from_agent LIKE 'user:%' AND message_type = 'request' AND kind = 'Decide')
)
SELECT get_json_object(content, '$.approval_id') AS approval_id, step, timestamp AS step_at,
  CASE WHEN kind = 'Decide' THEN substr(from_agent, 6)
    ELSE coalesce(get_json_object(content, '$.actor'), get_json_object(content, '$.requester'), from_agent)
  END AS actor,
  get_json_object(content, '$.for_user') AS for_user,
  get_json_object(content, '$.group') AS approval_group,
  get_json_object(content, '$.requester') AS requester,
  get_json_object(content, '$.subject') AS subject,
  get_json_object(content, '$.question') AS question,
  get_json_object(content, '$.code.language') AS language,
  get_json_object(content, '$.code.text') AS code,
  get_json_object(content, '$.target') AS target,
  get_json_object(content, '$.statement_class') AS statement_class,
  get_json_object(content, '$.table_versions') AS table_versions,
  get_json_object(content, '$.digest') AS digest,
  get_json_object(content, '$.rule') AS rule,
  get_json_object(content, '$.policy') AS policy,
  get_json_object(content, '$.needs') AS needs,
  get_json_object(content, '$.remaining') AS remaining,
  get_json_object(content, '$.reason') AS reason,
  CAST(get_json_object(content, '$.expires_at') AS BIGINT) AS expires_at_micros,
  correlation_id, key_id, log_version, seq, place
FROM steps
