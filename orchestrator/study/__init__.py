"""A study: its fields, files and flags, its model and data, all checked before anything is started."""
