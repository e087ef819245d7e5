"""Loading a model from its folder, whatever form its weights are stored in."""
