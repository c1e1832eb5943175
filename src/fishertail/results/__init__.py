"""Result files: how they are written, what they hold, and where those of a run are."""
