"""The bus through Spark: the session, and the Structured Streaming feed. Only this package of the bus imports Spark."""
