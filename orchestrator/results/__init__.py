"""What a study found, from its ledger alone: points, intervals, the frontier, and what is said of them."""
