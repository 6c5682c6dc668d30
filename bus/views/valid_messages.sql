-- The rows that count, receipts included: what bus.fold.valid_rows says, for the history that our writers can leave,
-- whatever they raced for and wherever they were killed. (It looks at no signature, and where a forged row depends on one that
-- does not count, only the fold, and with it `tailrace audit verify`, follows the whole chain.)
-- place: the position in the log as one number.
WITH
placed AS (
  SELECT *, log_version * 2147483648 + seq AS place,
    CASE WHEN message_type = 'receipt' THEN coalesce(handling_id, message_id) ELSE handling_id END AS handling
  FROM placed_messages
),
-- An output stands behind the receipt it was committed with; otherwise nobody's handling made it.
committed AS (
  SELECT *, min(CASE WHEN message_type = 'receipt' THEN seq END) OVER (PARTITION BY log_version, handling) AS receipt_seq
  FROM placed
),
-- What an event decides: a grant is claimed once, or revoked before; a lease is renewed by a higher number, and ended by whoever names the highest.
said AS (
  SELECT *,
    CASE WHEN message_type <> 'event' THEN NULL
      WHEN kind = 'ExecutionClaimed' THEN concat(from_agent, '/', get_json_object(content, '$.grant_id'))
      WHEN kind = 'GrantRevoked' AND from_agent = 'GovernanceAgent' THEN
        concat(get_json_object(content, '$.executor'), '/', get_json_object(content, '$.grant_id'))
    END AS claimed,
    CASE WHEN kind = 'InstanceChanged' AND message_type = 'event' THEN get_json_object(content, '$.instance') END AS instance,
    CASE WHEN kind = 'InstanceChanged' AND message_type = 'event' THEN get_json_object(content, '$.step') END AS step,
    CASE WHEN kind = 'InstanceChanged' AND message_type = 'event' THEN
      CAST(coalesce(get_json_object(content, '$.number'), '0') AS BIGINT)
    END AS number
  FROM committed
  WHERE message_type = 'receipt' OR handling_id IS NULL OR receipt_seq < seq
),
decided AS (
  SELECT *,
    row_number() OVER (PARTITION BY coalesce(claimed, concat('none:', message_id)) ORDER BY place) AS claim,
    max(CASE WHEN step IN ('started', 'renewed') THEN number END) OVER (
      PARTITION BY coalesce(instance, concat('none:', message_id)) ORDER BY place
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS newest
  FROM said
),
leased AS (
  SELECT *,
    max(CASE WHEN step = 'stopped' OR (step = 'ended' AND number = newest) THEN 1 ELSE 0 END) OVER (
      PARTITION BY coalesce(instance, concat('none:', message_id)) ORDER BY place
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS is_over
  FROM decided
),
-- A receipt speaks of the message it is for; a message id counts once, so the first row with it says who was addressed.
about AS (
  SELECT *, CASE WHEN message_type = 'receipt' THEN causation_id ELSE message_id END AS subject
  FROM leased
  WHERE (claimed IS NULL OR claim = 1)
    AND (step IS NULL OR step NOT IN ('renewed', 'ended') OR coalesce(
      is_over = 0 AND CASE WHEN step = 'renewed' THEN number > newest ELSE number = newest END, false))
),
first_of AS (
  SELECT *, min(CASE WHEN message_type <> 'receipt' THEN place END) OVER (PARTITION BY subject) AS first_place
  FROM about
),
addressed AS (
  SELECT *,
    max(CASE WHEN place = first_place THEN to_agent END) OVER (PARTITION BY subject) AS addressee,
    max(CASE WHEN place = first_place THEN message_type END) OVER (PARTITION BY subject) AS addressed_as
  FROM first_of
),
entitled AS (
  SELECT *,
    CASE WHEN message_type = 'receipt' AND first_place < place AND addressee <> '' AND addressee NOT LIKE 'user:%'
      AND (addressee = from_agent OR (addressee = '*' AND addressed_as = 'event')) THEN 1 ELSE 0 END AS may_settle
  FROM addressed
),
-- The first receipt of each agent for a message counts, and what stands behind it in its commit.
turns AS (
  SELECT *, CASE WHEN may_settle = 1
    AND row_number() OVER (PARTITION BY subject, from_agent, may_settle ORDER BY place) = 1 THEN seq END AS settling_seq
  FROM entitled
),
settled AS (
  SELECT *, min(settling_seq) OVER (PARTITION BY log_version, handling) AS counting_seq
  FROM turns
),
counting AS (
  SELECT *, row_number() OVER (PARTITION BY message_id ORDER BY place) AS copy
  FROM settled
  WHERE CASE WHEN message_type = 'receipt' THEN settling_seq IS NOT NULL ELSE handling_id IS NULL OR counting_seq < seq END
)
SELECT
  message_id, correlation_id, causation_id, from_agent, to_agent, message_type, kind, schema_version, content, priority,
  timestamp, not_before, expires_at, attempt, principal, traceparent, key_id, signature, log_version, seq, handling_id,
  date, place
FROM counting
WHERE copy = 1
