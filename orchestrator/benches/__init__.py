"""`mtpareto bench`: each bench in a module, with its figures, the marks they are held to and its results file."""
