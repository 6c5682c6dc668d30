"""How things look in a terminal: one module a thing shown. Values in, rich renderables out."""
