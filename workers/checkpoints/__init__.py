"""A model's files: found, fetched, and read by their headers; no weights are loaded here."""
