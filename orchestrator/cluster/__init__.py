"""The Ray cluster: which one is meant, whether it answers, and a local one of this search's own."""
