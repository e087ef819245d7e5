"""Teachers: which one is used, and its distributions, as training goes or from a cache."""
