"""fishertail beside its peers, on the same checkpoints in one run: `make bench`."""
