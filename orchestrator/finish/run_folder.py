"""A run's folder, opened again: its ledger, its study and its data, and its pages written anew; without Ray."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from orchestrator.finish.wrap_up import SearchResult, wrap_up
from orchestrator.ledger.records import Ledger, read_ledger
from orchestrator.racing.referee import Referee
from orchestrator.report.published.points_file import put_published_points
from orchestrator.results.intervals import Known
from orchestrator.study.spec import StudySpec, know_languages, spec_from_mapping
from orchestrator.study.splits import separate_splits
from search_spaces.errors import StudyError
from workers.plan.evaluation_plan import RACED_SPLIT
from workers.reading.dataset import read_datasets
from workers.reading.segments import DataSet
from workers.runtime.file_locks import hold

LOCK = "search.lock"


def reopen(folder: Path) -> tuple[Ledger, StudySpec]:
    """A run's ledger, and its study as it stands in that folder now."""
    ledger = read_ledger(folder.resolve())
    # A study that began before there was a floor has none.
    spec = spec_from_mapping({"floor": 0.0, **ledger.header["spec"], "out": str(folder.resolve())})
    return ledger, spec if ledger.asked is None else replace(spec, trials=ledger.asked)


def read_data(spec: StudySpec) -> dict[str, DataSet]:
    """The study's data sets by split, of the study's pairs where it names any; raises DataError for a bad file,
    StudyError for sources that are in two, unless bad rows are skipped: then these are left out of dev."""
    data = {"dev": read_dev(spec)}
    if spec.test is not None:
        data["test"] = read_datasets(spec.test_files, langs=spec.langs, skip_bad_rows=spec.skip_bad_rows)
    return separate_splits(data, spec.skip_bad_rows)


def read_dev(spec: StudySpec) -> DataSet:
    """The data that the search selects on."""
    know_languages(spec.languages)
    return read_datasets(
        spec.data_files, references=spec.references, langs=spec.langs, skip_bad_rows=spec.skip_bad_rows
    )


def referee_of(spec: StudySpec) -> Referee:
    """The referee of the study's races, made where the ledger's actor is: it imports no more than this needs."""
    by_floor_alone = spec.third is not None
    return Referee(read_data(spec)[RACED_SPLIT].segments, spec.quality, spec.floor, by_floor_alone=by_floor_alone)


def hold_search_lock(folder: Path) -> AbstractContextManager[object]:
    """Keep other searches out of the folder; raises StudyError when one runs there."""
    try:
        return hold(folder / LOCK, 0.0)
    except TimeoutError as error:
        raise StudyError(f"a search is running in {folder}; wait for its end, or stop it") from error


def report_again(
    folder: Path,
    console: Console,
    again: bool = True,
    known: Known | None = None,
    mlflow_seconds: float | None = None,
    patience: float = 0.0,
    loadable: bool = False,
    published: Path | None = None,
) -> SearchResult:
    """Write a run's pages anew from its ledger and bring MLflow up to date with it; runs no trial.

    What a search that is running there needs stays. again, known, mlflow_seconds, loadable: as in `wrap_up`.
    patience: how many seconds a search that runs there has to end. published: a file of other people's points,
    which the folder has from then on.
    """
    ledger, spec = reopen(folder)
    data = read_data(spec)
    refuse_changed_data(ledger, data, spec.folder)
    if published is not None:
        put_published_points(published, spec.folder)
    try:
        held = hold(spec.folder / LOCK, patience)
    except TimeoutError:
        return wrap_up(spec, data, console, running=True)
    with held:
        return wrap_up(spec, data, console, again=again, known=known, mlflow_seconds=mlflow_seconds, loadable=loadable)


def refuse_changed_data(ledger: Ledger, data: Mapping[str, DataSet], folder: Path) -> None:
    if {split: dataset.digest for split, dataset in data.items()} != ledger.header["data"]:
        raise StudyError(
            f"the data of the study in {folder} has changed since it began; put it back, or begin a new study"
        )
