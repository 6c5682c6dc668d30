"""Surfaces for people: the command line, and later the gateway, the console and the chat."""
