-- agent_messages as the log bus writes it: every row knows its place, (log_version, seq).
SELECT * FROM agent_messages
