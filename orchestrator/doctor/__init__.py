"""`mtpareto doctor`: what of the machine and of a study would stop a search, and the command that mends it."""
