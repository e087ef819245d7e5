"""Whose fault an exception is: the candidate's, the worker's, the machine's or the user's."""
