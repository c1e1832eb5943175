"""The gradients of all samples as an implicit matrix G (N x P) that is never stored whole."""
