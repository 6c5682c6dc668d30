"""Messages, payloads and tables: the words everything else speaks. Imports nothing of ours."""
