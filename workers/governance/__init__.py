"""GovernanceAgent: decides what may happen, asks a person where needed, and signs grants."""
