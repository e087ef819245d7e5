"""Benchmarks of the workers' own parts; `mtpareto bench` runs them and writes what they found."""
