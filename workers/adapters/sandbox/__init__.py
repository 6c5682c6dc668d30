"""The execution engine: Spark in a child process that can read the lakehouse and nothing else of the home."""
