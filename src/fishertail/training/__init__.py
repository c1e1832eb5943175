"""Networks and plain SGD: weights after SGD steps, which are the whole state of a run."""
