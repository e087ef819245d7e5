"""What a run's pages say first where its baseline is not sound: every figure stands beside that model's."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.results.points import Results
from workers.scoring.baseline_look import UNSOUND


def baseline_faults(splits: Iterable[Results | None]) -> list[str]:
    """What was noted of the uncompressed model itself on the first of the splits that shows a fault: a second one, of
    the same model asked in the same way, says the same again."""
    for results in splits:
        if results is not None and results.baseline is not None:
            notes = [note for note in results.baseline.measurement.notes if note.startswith(UNSOUND)]
            if notes:
                return notes
    return []
