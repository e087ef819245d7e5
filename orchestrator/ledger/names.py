"""The names of a run's files, apart from what reads them, which takes a moment to import."""

LEDGER = "ledger.jsonl"
# The study that makes a run's baseline, inside the run's folder.
BASELINE = "baseline"
# The pairs that the model wrote for its training.
SYNTHETIC = "synthetic.jsonl"
