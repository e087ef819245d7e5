"""Whole searches on a Ray of their own; a package, so that its conftest can be imported by name."""
