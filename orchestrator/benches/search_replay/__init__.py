"""A recorded table of candidates, and how soon each way of searching would have found what is in it."""
