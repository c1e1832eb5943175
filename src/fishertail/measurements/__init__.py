"""What is measured of a checkpoint: a file for each measurement."""
