"""The tables of the bus: the one log that decides, and what is derived from it or kept beside it."""

from __future__ import annotations

from schemas.columns import Column, TableSchema

_DATE = Column("date", "date", "Day of the commit (UTC), the partition.")
_VERSION = Column("log_version", "long", "Version of agent_messages this row came from.")
_SEQ = Column("seq", "int", "Position within that commit.")

AGENT_MESSAGES = TableSchema(
    "agent_messages",
    "The one log that decides: requests, responses, events and receipts, in the order (log_version, seq).",
    (
        Column("message_id", "string", "Unique id; derived from its cause when an agent sent it."),
        Column("correlation_id", "string", "The conversation."),
        Column("causation_id", "string", "The message this one answers; for a receipt, the message that was handled."),
        Column("from_agent", "string", "Sender: an agent's name, or user:NAME."),
        Column("to_agent", "string", "Addressee: an agent's name, user:NAME, or * for whoever subscribes to the kind."),
        Column("message_type", "string", "request, response, event or receipt."),
        Column("kind", "string", "Type of the payload, such as RunCode."),
        Column("schema_version", "int", "Version of the payload's schema."),
        Column("content", "string", "The payload as JSON, byte for byte as it was signed."),
        Column("priority", "int", "1 to 10, 10 most urgent."),
        Column("timestamp", "timestamp", "When the sender wrote it (UTC)."),
        Column("not_before", "timestamp", "Not handled before this time."),
        Column("expires_at", "timestamp", "Not handled after this time."),
        Column("attempt", "int", "Which delivery of a redriven message this is, from 1."),
        Column("principal", "string", "On whose behalf: the person who signed the conversation's root message."),
        Column("traceparent", "string", "W3C trace context."),
        Column("key_id", "string", "Key that signed the row."),
        Column("signature", "string", "Ed25519 over the length-prefixed fields above."),
        Column("log_version", "long", "Version of the commit, added by the writer."),
        Column("seq", "int", "Position in the commit, added by the writer."),
        Column("handling_id", "string", "The receipt this row was committed with, or null."),
        _DATE,
    ),
    stats=("message_id", "correlation_id", "timestamp", "log_version"),
)

#: The columns a signature covers, in this order.
SIGNED_COLUMNS = tuple(
    c.name for c in AGENT_MESSAGES.columns[: [c.name for c in AGENT_MESSAGES.columns].index("key_id")]
)

AGENT_EVENTS = TableSchema(
    "agent_events",
    "Every event of the log, and events from outside.",
    (
        Column("message_id", "string", "The event."),
        Column("correlation_id", "string", "The conversation."),
        Column("causation_id", "string", "What it followed from."),
        Column("from_agent", "string", "Sender."),
        Column("kind", "string", "Type of the payload."),
        Column("content", "string", "The payload as JSON."),
        Column("principal", "string", "On whose behalf."),
        Column("timestamp", "timestamp", "When the sender wrote it (UTC)."),
        _VERSION,
        _SEQ,
        _DATE,
    ),
)

AUDIT_LOG = TableSchema(
    "audit_log",
    "Every decision, grant, refusal and effect, hash-chained per writer.",
    (
        Column("message_id", "string", "The audit fact's row in agent_messages."),
        Column("correlation_id", "string", "The conversation."),
        Column("causation_id", "string", "The message that led to it."),
        Column("writer", "string", "Whose chain: agent and instance."),
        Column("sequence", "long", "Position in that chain, from 1."),
        Column("previous", "string", "sha256 of the chain's fact before, or 64 zeros."),
        Column("agent", "string", "Who recorded it."),
        Column("action", "string", "What happened, such as execution.granted."),
        Column("decision", "string", "allowed, refused, done or failed."),
        Column("rule", "string", "The rule that decided."),
        Column("reason", "string", "For a person."),
        Column("principal", "string", "On whose behalf."),
        Column("details", "string", "More facts, as JSON."),
        Column("timestamp", "timestamp", "When it was recorded (UTC)."),
        _VERSION,
        _SEQ,
        _DATE,
    ),
)

APPROVALS = TableSchema(
    "approvals",
    "What was asked of a person, and what the person said: one row a step.",
    (
        Column("approval_id", "string", "The approval that was asked for."),
        Column("correlation_id", "string", "The conversation."),
        Column(
            "step", "string", "requested, voted, reminded, escalated, approved, rejected, changes_requested or expired."
        ),
        Column("actor", "string", "Who took the step."),
        Column("requester", "string", "On whose behalf approval was asked."),
        Column("code", "string", "The exact code."),
        Column("target", "string", "Table the result is saved to."),
        Column("digest", "string", "Digest of the dry run."),
        Column("reason", "string", "What the actor said."),
        Column("expires_at", "timestamp", "When the question lapses."),
        Column("timestamp", "timestamp", "When the step was taken (UTC)."),
        _VERSION,
        _SEQ,
        _DATE,
    ),
)

EXECUTIONS = TableSchema(
    "executions",
    "What ran under a grant: one row a step, claimed before the effect, an outcome after it.",
    (
        Column("grant_id", "string", "The grant."),
        Column("correlation_id", "string", "The conversation."),
        Column("step", "string", "claimed, done, failed, in_doubt or cancelled."),
        Column("requester", "string", "On whose behalf."),
        Column("question", "string", "What was asked, in words."),
        Column("code", "string", "The code that ran."),
        Column("target", "string", "Table the result was saved to."),
        Column("table_version", "long", "Delta version that was written."),
        Column("table_version_before", "long", "Delta version that was there before: what undo goes back to."),
        Column("row_count", "long", "Rows of the result."),
        Column("approved_by", "string", "Who approved."),
        Column("reason", "string", "Why it failed, was cancelled or is in doubt."),
        Column("settled_by", "string", "Who said what became of it, when nobody had lived to see it."),
        Column("proof", "string", "What proves it, such as a mark in the target's log."),
        Column("undoes", "string", "The grant whose effect this took back."),
        Column("timestamp", "timestamp", "When the step was recorded (UTC)."),
        _VERSION,
        _SEQ,
        _DATE,
    ),
    widens=True,
)

AGENT_REGISTRY = TableSchema(
    "agent_registry",
    "Agents and instances as appended facts.",
    (
        Column("agent", "string", "The agent's name."),
        Column("instance", "string", "The running copy."),
        Column("host", "string", "The process that runs it: machine and process id."),
        Column("engine", "string", "streaming or tail."),
        Column("step", "string", "started or stopped."),
        Column("kinds", "string", "What it handles, comma-separated."),
        Column("timestamp", "timestamp", "When (UTC)."),
        _VERSION,
        _SEQ,
        _DATE,
    ),
)

AGENT_SHARED_MEMORY = TableSchema(
    "agent_shared_memory",
    "What agents share beside conversations, as appended facts: the newest of a scope and key counts until it expires.",
    (
        Column("fact_id", "string", "Unique id; derived from its cause when a handler wrote it."),
        Column("scope", "string", "What the value belongs to."),
        Column("key", "string", "Its name there; empty for the roles of the scope."),
        Column("value", "string", "The value as JSON; null when it was deleted."),
        Column("readers", "strings", "For the roles of a scope: who may read it; * for all."),
        Column("writers", "strings", "For the roles of a scope: who may write it; * for all."),
        Column("writer", "string", "Who wrote it: an agent's name, or user:NAME."),
        Column("principal", "string", "On whose behalf."),
        Column("message_id", "string", "The message whose handler wrote it."),
        Column("expires_at", "timestamp", "No value from then on; null for never."),
        Column("timestamp", "timestamp", "When it was written (UTC)."),
        Column("key_id", "string", "Key that signed the row."),
        Column("signature", "string", "Ed25519 over all of the above."),
        Column("log_version", "long", "Version of the commit."),
        Column("seq", "int", "Position in the commit."),
        _DATE,
    ),
)

KNOWLEDGE_DOCUMENTS = TableSchema(
    "knowledge_documents",
    "Approved documents, one row a version of a document.",
    (
        Column("document", "string", "The document's name."),
        Column("title", "string", "Its title."),
        Column("sha256", "string", "Digest of its text: a version is a digest."),
        Column("roles", "strings", "Roles that may read it; * for all."),
        Column("text", "string", "The whole text."),
        Column("status", "string", "approved or withdrawn."),
        Column("timestamp", "timestamp", "When this version was added (UTC)."),
        _DATE,
    ),
)

KNOWLEDGE_CHUNKS = TableSchema(
    "knowledge_chunks",
    "The pieces of documents that are searched.",
    (
        Column("document", "string", "The document's name."),
        Column("sha256", "string", "Digest of the document version the chunk belongs to."),
        Column("chunk", "int", "Position in the document, from 1."),
        Column("title", "string", "Title and heading."),
        Column("roles", "strings", "Roles that may read it; * for all."),
        Column("text", "string", "The text."),
        Column("timestamp", "timestamp", "When it was added (UTC)."),
        _DATE,
    ),
)

REPLAYS = TableSchema(
    "replays",
    "What recorded messages came to when they were handled again, without effects: one row a message and replay.",
    (
        Column("replay_id", "string", "One run of `tailrace replay`."),
        Column("message_id", "string", "The message that was handled again."),
        Column("correlation_id", "string", "Its conversation."),
        Column("agent", "string", "Who handled it."),
        Column("kind", "string", "Type of the message's payload."),
        Column("worker", "string", "The code that handled it this time, as module:Class."),
        Column("verdict", "string", "same, different, failed, skipped, repaired or still_failing."),
        Column("reason", "string", "Why it failed or was skipped; what was wrong then, if it is repaired."),
        Column("recorded_outcome", "string", "The outcome that the receipt says."),
        Column("replayed_outcome", "string", "The outcome this time."),
        Column("recorded", "string", "What came out then: envelopes and contents, as JSON."),
        Column("replayed", "string", "What came out this time, as JSON."),
        Column("difference_count", "int", "Fields that differ."),
        Column("differences", "string", "Each of them: output, path, then, now; as JSON."),
        Column("recorded_ms", "double", "Milliseconds in the handler then."),
        Column("replayed_ms", "double", "Milliseconds in the handler this time."),
        Column("replaced", "string", "What was put in the place of the usual files, as JSON."),
        Column("timestamp", "timestamp", "When it was replayed (UTC)."),
        Column("log_version", "long", "Version of agent_messages that holds the recorded receipt."),
        Column("seq", "int", "Position of that receipt in its commit."),
        _DATE,
    ),
)

TABLES: dict[str, TableSchema] = {
    table.name: table
    for table in (
        AGENT_MESSAGES,
        AGENT_EVENTS,
        AUDIT_LOG,
        APPROVALS,
        EXECUTIONS,
        AGENT_REGISTRY,
        AGENT_SHARED_MEMORY,
        KNOWLEDGE_DOCUMENTS,
        KNOWLEDGE_CHUNKS,
        REPLAYS,
    )
}
