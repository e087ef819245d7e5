"""What a run's pages are headed with, and what its baseline was made of where the study made it first."""

from __future__ import annotations

from pathlib import Path

from orchestrator.ledger.names import BASELINE, LEDGER
from orchestrator.ledger.records import read_ledger
from orchestrator.results.step_labels import short_label
from orchestrator.study.spec import StudySpec
from search_spaces.candidate import Candidate


def made_baseline(spec: StudySpec) -> Candidate | None:
    """The model and the steps that the study's baseline was made of; None where it is the study's model itself."""
    first = spec.folder / BASELINE
    if not (first / LEDGER).is_file():
        return None
    return next((one.candidate for one in read_ledger(first).on("dev") if one.candidate.steps), None)


def title_of(spec: StudySpec) -> str:
    """The model and the space; of a model that the study made first, what it was made of, and how."""
    made = made_baseline(spec)
    if made is None:
        return spec.title
    return f"{Path(made.base.name).name} after {short_label(made)}, space {spec.space}"
