"""After the last trial, or a stop: the table, the pages, the artefacts that stay, and MLflow."""
