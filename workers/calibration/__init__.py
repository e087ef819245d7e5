"""Calibration: one pass over prompt-formatted pairs, kept as statistics that every calibrated method reads."""
