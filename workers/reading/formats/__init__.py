"""The accepted formats of data files, one module each, and telling them by their content."""
