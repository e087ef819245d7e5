"""COMET scores, taken in a Python environment of their own behind a Ray actor."""
