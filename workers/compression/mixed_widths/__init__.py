"""A width for each group of weights, chosen so that the model is harmed least within a budget of bytes."""
