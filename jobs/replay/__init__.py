"""`tailrace replay`: recorded messages through today's or a named worker, without effects."""
