"""The names of a run's files, apart from what reads them, which takes a moment to import."""

LEDGER = "ledger.jsonl"
