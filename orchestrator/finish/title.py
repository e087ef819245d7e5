"""What a run's pages are headed with."""

from __future__ import annotations

from pathlib import Path

from orchestrator.ledger.names import BASELINE, LEDGER
from orchestrator.ledger.records import read_ledger
from orchestrator.results.step_labels import short_label
from orchestrator.study.spec import StudySpec


def title_of(spec: StudySpec) -> str:
    """The model and the space; of a model that the study made first, what it was made of, and how."""
    first = spec.folder / BASELINE
    if not (first / LEDGER).is_file():
        return spec.title
    ledger = read_ledger(first)
    made = next((one.candidate for one in ledger.on("dev") if one.candidate.steps), None)
    if made is None:
        return spec.title
    return f"{Path(made.base.name).name} after {short_label(made)}, space {spec.space}"
