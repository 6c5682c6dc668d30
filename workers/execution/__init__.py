"""ExecutionAgent: the only agent that acts, once for each grant it has verified itself."""
