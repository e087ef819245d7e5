"""Reading a translation data set in any of the accepted formats into segments with their references."""
