"""A study's points as tables: in the terminal, for a paper, as CSV."""
