"""The ledger, from which all else is rebuilt: its lines, its one writer, and metrics that reached a run later."""
