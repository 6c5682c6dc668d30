"""Scheduled jobs, and the bootstrap that wires real things together."""
