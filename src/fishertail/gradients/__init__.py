"""Every sample's gradient as an implicit matrix G (N x P), computed by batch and layer and never stored whole."""
