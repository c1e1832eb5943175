"""Networks by name: a file for each, and any other by a factory."""
