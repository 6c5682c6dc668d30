"""What `tailrace bench` measures: always against something else in the same run, medians, ratios."""
