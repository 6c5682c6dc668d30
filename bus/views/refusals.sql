-- What was refused: to whom, by which rule of which policy, and why.
SELECT recorded_at, principal, action, rule, reason, policy, agent, details, correlation_id, causation_id, log_version, seq
FROM audit_facts
WHERE decision = 'refused'
