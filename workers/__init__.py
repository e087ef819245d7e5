"""Carry out trials on a worker: read data, compress, translate and score."""
