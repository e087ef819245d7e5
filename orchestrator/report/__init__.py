"""The report: one HTML page that opens offline, and the frontier as a picture."""
