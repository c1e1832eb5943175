"""Statistics of gradient norms and of a_x, on arrays alone."""
