"""The driver: which candidate is tried when, what came of it, and the frontier; it never loads torch."""
