"""Ends a command within seconds of a signal or of Ray's loss, with nothing lost and no process left."""
