-- What hosts run with: keys they opened, changes of policies, roles, users, settings, redaction rules and the key ring.
SELECT recorded_at, action, reason, details, agent, writer, log_version, seq
FROM audit_facts
WHERE action IN ('keys.opened', 'keys.changed', 'config.changed', 'log.anchored')
