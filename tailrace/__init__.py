"""What other people's code imports: the client and the base of a worker."""
