"""Data sets: where each comes from, a file for each source, and one form in memory."""
