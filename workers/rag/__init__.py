"""RAGAgent: finds knowledge and says why it matched; it never executes anything."""
