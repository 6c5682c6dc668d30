"""The message bus: a log of messages in Delta tables, read by feeds and folded into state. Importing it starts nothing."""
