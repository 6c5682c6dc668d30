"""Agent workers, the runtime that runs them, and what they ask of the outside."""
