"""A Watch in the training loops of other packages: a callback for each, in a file of its own."""
