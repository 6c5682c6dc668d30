"""A Delta table as a log: put-if-absent append, tail, and decisions as compare-and-set."""
