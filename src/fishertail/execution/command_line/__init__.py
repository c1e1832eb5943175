"""The command `fishertail`: measures finished checkpoints of any program, and makes pages."""
