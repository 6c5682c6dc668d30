"""Tables derived from the log of messages, crash-safe through transaction actions."""
