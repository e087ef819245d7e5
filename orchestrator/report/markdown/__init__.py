"""A run's results as a page of Markdown for a repository or a paper, its figures as JSON beside it: from the ledger."""
