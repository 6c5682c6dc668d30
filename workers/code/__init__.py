"""The code agent: a question becomes checked, explained SQL. It never runs anything."""
