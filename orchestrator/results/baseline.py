"""What a run's pages say first where its baseline is not sound: every figure stands beside that model's."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.results.points import Results
from workers.scoring.baseline_look import UNSOUND


def baseline_faults(splits: Iterable[Results | None]) -> list[str]:
    """What was noted of the uncompressed model itself on any of the splits, each once."""
    notes = [
        note
        for results in splits
        if results is not None and results.baseline is not None
        for note in results.baseline.measurement.notes
        if note.startswith(UNSOUND)
    ]
    return list(dict.fromkeys(notes))
