"""Ports answered by rules: they need nothing but their configuration."""
