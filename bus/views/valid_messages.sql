-- The rows that count, receipts included: what bus.fold.valid_rows says, for the history that our writers can leave,
-- whatever they raced for and wherever they were killed. (It looks at no signature, and where rows were forged so that one
-- forged row depends on another, only the fold, and with it `tailrace audit verify`, follows the whole chain.)
-- place: the position in the log as one number.
WITH
placed AS (
  SELECT *, log_version * 2147483648 + seq AS place FROM placed_messages
),
-- An output stands behind the receipt it was committed with; otherwise nobody's handling made it.
committed AS (
  SELECT p.* FROM placed p
  WHERE p.message_type = 'receipt' OR p.handling_id IS NULL OR EXISTS (
    SELECT 1 FROM placed r
    WHERE r.message_type = 'receipt' AND r.handling_id = p.handling_id AND r.log_version = p.log_version AND r.seq < p.seq
  )
),
-- What an event decides: a grant is claimed once; a lease is renewed by a higher number, and ended by whoever names the highest.
said AS (
  SELECT c.*,
    CASE WHEN c.kind = 'ExecutionClaimed' AND c.message_type = 'event' THEN
      coalesce(get_json_object(c.content, '$.grant_id'), concat('malformed:', c.message_id))
    END AS grant_id,
    CASE WHEN c.kind = 'InstanceChanged' AND c.message_type = 'event' THEN
      get_json_object(c.content, '$.instance')
    END AS instance,
    CASE WHEN c.kind = 'InstanceChanged' AND c.message_type = 'event' THEN
      get_json_object(c.content, '$.step')
    END AS step,
    CASE WHEN c.kind = 'InstanceChanged' AND c.message_type = 'event' THEN
      CAST(coalesce(get_json_object(c.content, '$.number'), '0') AS BIGINT)
    END AS number
  FROM committed c
),
decided AS (
  SELECT *,
    row_number() OVER (PARTITION BY grant_id ORDER BY place) AS claim,
    max(CASE WHEN step IN ('started', 'renewed') THEN number END) OVER (
      PARTITION BY instance ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS newest
  FROM said
),
leased AS (
  SELECT *,
    max(CASE WHEN step = 'stopped' OR (step = 'ended' AND number = newest) THEN 1 ELSE 0 END) OVER (
      PARTITION BY instance ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS is_over
  FROM decided
),
candidates AS (
  SELECT * FROM leased
  WHERE (grant_id IS NULL OR claim = 1)
    AND (step IS NULL OR step NOT IN ('renewed', 'ended') OR coalesce(
      is_over = 0 AND CASE WHEN step = 'renewed' THEN number > newest ELSE number = newest END, false))
),
-- A message id counts once: this is who was addressed by the first row that has it.
addressed AS (
  SELECT message_id, to_agent, message_type, place FROM (
    SELECT *, row_number() OVER (PARTITION BY message_id ORDER BY place) AS copy
    FROM candidates WHERE message_type <> 'receipt'
  ) AS copies
  WHERE copy = 1 AND to_agent <> '' AND to_agent NOT LIKE 'user:%'
),
-- The first receipt of each agent for a message that was there before, and for it or for everyone.
receipts AS (
  SELECT handling_id, log_version, seq, place FROM (
    SELECT r.*, row_number() OVER (PARTITION BY r.causation_id, r.from_agent ORDER BY r.place) AS turn
    FROM candidates r
    WHERE r.message_type = 'receipt' AND EXISTS (
      SELECT 1 FROM addressed a
      WHERE a.message_id = r.causation_id AND a.place < r.place
        AND (a.to_agent = r.from_agent OR (a.to_agent = '*' AND a.message_type = 'event'))
    )
  ) AS turns
  WHERE turn = 1
),
counting AS (
  SELECT c.*, row_number() OVER (PARTITION BY c.message_id ORDER BY c.place) AS copy
  FROM candidates c
  WHERE CASE
    WHEN c.message_type = 'receipt' THEN EXISTS (SELECT 1 FROM receipts r WHERE r.place = c.place)
    WHEN c.handling_id IS NULL THEN true
    ELSE EXISTS (
      SELECT 1 FROM receipts r
      WHERE r.handling_id = c.handling_id AND r.log_version = c.log_version AND r.seq < c.seq
    )
  END
)
SELECT
  message_id, correlation_id, causation_id, from_agent, to_agent, message_type, kind, schema_version, content, priority,
  timestamp, not_before, expires_at, attempt, principal, traceparent, key_id, signature, log_version, seq, handling_id,
  date, place
FROM counting
WHERE copy = 1
