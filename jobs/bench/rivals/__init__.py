"""Whom the bus is compared with: each does the same work by its own recommended means. Optional: the extra `bench`."""
