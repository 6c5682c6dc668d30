"""The orchestrator: finds out what a person wants, checks that the role may, delegates by plan, and answers."""
