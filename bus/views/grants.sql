-- Every grant with what became of it: who asked, who approved or which rule, for exactly what, and the claim or revocation.
-- decided_version: governance decided on agent_messages WHERE log_version < decided_version. read_versions: the tables as the
-- dry run saw them, each still readable there: SELECT * FROM t VERSION AS OF v.
WITH
told AS (
  SELECT *, coalesce(get_json_object(content, '$.grant.grant_id'), get_json_object(content, '$.grant_id')) AS grant_id,
    CASE WHEN from_agent = 'GovernanceAgent' AND kind IN ('RunCode', 'ApprovalGranted') THEN 'granted'
      WHEN from_agent = 'GovernanceAgent' AND kind = 'GrantRevoked' AND message_type = 'event' THEN 'revoked'
      WHEN from_agent = 'ExecutionAgent' AND kind = 'ExecutionClaimed' AND message_type = 'event' THEN 'claimed'
      WHEN from_agent = 'ExecutionAgent' AND kind = 'ExecutionSettled' AND message_type = 'event' THEN 'settled'
    END AS part
  FROM valid_messages
  WHERE (from_agent = 'GovernanceAgent' AND kind IN ('RunCode', 'ApprovalGranted', 'GrantRevoked'))
    OR (from_agent = 'ExecutionAgent' AND kind IN ('ExecutionClaimed', 'ExecutionSettled'))
),
placed AS (
  SELECT *,
    row_number() OVER (PARTITION BY grant_id, part ORDER BY place) AS nth,
    row_number() OVER (PARTITION BY grant_id, part ORDER BY place DESC) AS nth_last
  FROM told
  WHERE part IS NOT NULL
),
parts AS (
  SELECT grant_id,
    max(CASE WHEN part = 'granted' AND nth = 1 THEN content END) AS granted,
    max(CASE WHEN part = 'granted' AND nth = 1 THEN timestamp END) AS granted_at,
    max(CASE WHEN part = 'granted' AND nth = 1 THEN log_version END) AS decided_version,
    max(CASE WHEN part = 'granted' AND nth = 1 THEN correlation_id END) AS correlation_id,
    max(CASE WHEN part = 'granted' AND nth = 1 THEN key_id END) AS key_id,
    max(CASE WHEN part = 'claimed' AND nth = 1 THEN content END) AS claimed,
    max(CASE WHEN part = 'claimed' AND nth = 1 THEN timestamp END) AS claimed_at,
    max(CASE WHEN part = 'claimed' AND nth = 1 THEN log_version END) AS claimed_version,
    max(CASE WHEN part = 'settled' AND nth_last = 1 THEN content END) AS settled,
    max(CASE WHEN part = 'settled' AND nth_last = 1 THEN timestamp END) AS settled_at,
    max(CASE WHEN part = 'settled' AND nth_last = 1 THEN log_version END) AS settled_version,
    max(CASE WHEN part = 'revoked' AND nth = 1 THEN content END) AS revoked,
    max(CASE WHEN part = 'revoked' AND nth = 1 THEN timestamp END) AS revoked_at
  FROM placed
  GROUP BY grant_id
)
SELECT grant_id,
  get_json_object(granted, '$.grant.requester') AS requester,
  get_json_object(granted, '$.question') AS question,
  get_json_object(granted, '$.grant.approved_by') AS approved_by,
  get_json_object(granted, '$.grant.approvers') AS approvers,
  get_json_object(granted, '$.grant.approval_id') AS approval_id,
  get_json_object(granted, '$.grant.rule') AS rule,
  get_json_object(granted, '$.grant.policy') AS policy,
  get_json_object(granted, '$.grant.subject') AS subject,
  get_json_object(granted, '$.grant.dialect') AS language,
  get_json_object(granted, '$.code.text') AS code,
  get_json_object(granted, '$.grant.code_sha256') AS code_sha256,
  get_json_object(granted, '$.grant.target') AS target,
  get_json_object(granted, '$.grant.table_versions') AS read_versions,
  get_json_object(granted, '$.grant.dry_run_digest') AS dry_run_digest,
  get_json_object(granted, '$.grant.undoes') AS undoes,
  CAST(get_json_object(granted, '$.grant.expires_at') AS BIGINT) AS expires_at_micros,
  granted_at, decided_version, correlation_id, key_id,
  CASE WHEN claimed IS NOT NULL THEN coalesce(get_json_object(settled, '$.step'), 'running')
    WHEN revoked IS NOT NULL THEN 'revoked' ELSE 'unused'
  END AS status,
  get_json_object(revoked, '$.actor') AS revoked_by, revoked_at,
  get_json_object(claimed, '$.instance') AS executed_by, claimed_at, claimed_version,
  settled_at, settled_version,
  get_json_object(settled, '$.settled_by') AS settled_by,
  get_json_object(settled, '$.proof') AS proof,
  get_json_object(settled, '$.reason') AS reason,
  CAST(get_json_object(settled, '$.row_count') AS BIGINT) AS row_count,
  CAST(get_json_object(settled, '$.table_version_before') AS BIGINT) AS table_version_before,
  CAST(get_json_object(settled, '$.table_version') AS BIGINT) AS table_version
FROM parts
WHERE granted IS NOT NULL
