"""A model that a run kept, found by its pick, with how the study asked it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from orchestrator.finish.asking import asking_in
from orchestrator.finish.run_folder import read_data, reopen
from orchestrator.finish.wrap_up import kept_folders, speeds_of
from orchestrator.ledger.names import LEDGER
from orchestrator.ledger.records import Ledger
from orchestrator.results.picking import kept_folder, picked
from orchestrator.results.points import Point, Results, judge_on_test, quality_of, scored_alone
from orchestrator.study.spec import StudySpec
from search_spaces.errors import StudyError
from workers.checkpoints.model_files import CONFIG
from workers.translation.prompt_file import Asking, read_asking

AT = "@"


@dataclass(frozen=True, slots=True)
class KeptModel:
    """A model that a run kept."""

    folder: Path
    """Its files."""
    asking: Asking
    """How the study asked it."""
    spec: StudySpec
    """The study."""
    ledger: Ledger
    """The study's ledger."""
    point: Point
    """Its point, on dev; `held_out` is its held-out score."""
    results: Results
    """All points on dev, without intervals."""


def split_named(named: str) -> tuple[Path, str | None]:
    """A model's folder and None, or a run's folder and a pick, from DIR or RUN@PICK; a folder that is there under the
    whole name goes first.

    Raises StudyError for what is neither.
    """
    folder = Path(named).expanduser()
    if (folder / CONFIG).is_file():
        return folder, None
    if (folder / LEDGER).is_file():
        raise StudyError(f"{named} is a run; name one of its models with {AT} and a pick, such as {named}{AT}knee")
    run, at, pick = named.rpartition(AT)
    if at and run:
        return Path(run).expanduser(), pick
    what = f"has no {CONFIG}" if folder.is_dir() else "is no folder"
    raise StudyError(f"{named} {what}; name a model's folder, or a run's with a pick, such as runs/demo{AT}knee")


def kept_model(run: Path, pick: str) -> KeptModel:
    """The model of a run that a pick means, from its ledger alone.

    Raises StudyError where there is no run, no such point, or its model was not kept, and DataError where few-shot
    examples are needed and their file is gone.
    """
    ledger, spec = reopen(run)
    metric = quality_of(ledger.header)
    alone = partial(scored_alone, metric=metric, floor=spec.floor, speeds=speeds_of(ledger), limits=spec.limits)
    results = judge_on_test(alone(ledger.on("dev")), alone(ledger.on("test")) if ledger.on("test") else None)
    point = picked(results, pick)
    kept = kept_folders(spec.folder, results)
    if not kept and not ledger.complete:
        raise StudyError(f"{run} keeps no model yet: a search keeps them at its end; go on with: mtpareto resume {run}")
    folder = kept_folder(point, kept)
    asking = read_asking(folder) or asking_in(spec, ledger, point.record, lambda: read_data(spec))
    return KeptModel(folder=folder, asking=asking, spec=spec, ledger=ledger, point=point, results=results)
