"""The configuration: the runs of the grid, its faults, and its cost."""
