"""The command line: one entry point, one module a command, and what they share. Heavy imports wait for the command."""
