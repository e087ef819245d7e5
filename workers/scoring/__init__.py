"""Scores of hypotheses: the metrics, the sanity checks, and scores broken down."""
