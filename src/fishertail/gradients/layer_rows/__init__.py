"""The rows of G in one layer, stored as per-sample gradients or as the factors that they are products of."""
