"""What a trial is given: the plan of its evaluation, the context of a compression, the version of the code."""
