-- agent_messages as Spark writes it (Unity Catalog): the version a row was committed at is known to the table alone, by row
-- tracking. Rows of others than the bus, who number nothing, stand in the order that the bus gives them.
SELECT
  * EXCEPT (log_version, seq),
  _metadata.row_commit_version AS log_version,
  CAST(row_number() OVER (
    PARTITION BY _metadata.row_commit_version ORDER BY seq, message_id, content, handling_id, signature
  ) - 1 AS INT) AS seq
FROM agent_messages
