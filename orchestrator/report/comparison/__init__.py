"""Two studies on one page: whether they can be compared, what differs, and whether their frontiers agree."""
