"""A run, read from its folder: the study, its points, and the models that were kept."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.finish.run_folder import read_data, reopen
from orchestrator.finish.wrap_up import kept_folders, read_results
from orchestrator.ledger.records import TrialRecord
from orchestrator.results.points import Dropped, Point, Results
from orchestrator.results.statement import statement
from orchestrator.results.tables.csv_table import frontier_csv
from orchestrator.study.spec import StudySpec
from search_spaces.outcome import Failure


@dataclass(frozen=True, slots=True)
class Run:
    """What a study has found so far."""

    folder: Path
    """The run's folder."""
    study: StudySpec
    """The study as it is in that folder now."""
    complete: bool
    """Whether the search ended by itself; else `resume` continues it."""
    dev: Results
    """On the data that the search selects on; where a point stands is as the held-out data have it."""
    test: Results | None
    """On the held-out data; None where nothing was scored there."""
    artefacts: Mapping[int, Path]
    """Trial number -> the folder of its model, for every model that was kept."""

    @property
    def baseline(self) -> Point | None:
        """The uncompressed model; None before it was measured."""
        return self.dev.baseline

    @property
    def frontier(self) -> list[Point]:
        """The points of the frontier, from the largest to the smallest; `held_out` of each is its held-out score."""
        return self.dev.frontier

    @property
    def trials(self) -> tuple[Point, ...]:
        """Every trial that was measured on all segments, by trial number."""
        return self.dev.points

    @property
    def dropped(self) -> tuple[Dropped, ...]:
        """The trials that a race ended."""
        return self.dev.dropped

    @property
    def failures(self) -> tuple[tuple[TrialRecord, Failure], ...]:
        """The trials that failed, with their reasons."""
        return self.dev.failures

    @property
    def recommendation(self) -> str | None:
        """What the study recommends, in words, or why these data can't tell; None before there is anything to say."""
        said = statement(self.dev, self.test, self.study.margin)
        return None if said is None else said.said

    def to_frame(self) -> Any:
        """A pandas DataFrame with a row a trial that did not fail; its columns are those of `frontier.csv`."""
        import pandas

        return pandas.read_csv(io.StringIO(frontier_csv(self.dev))).fillna({"steps": ""})


def load_run(folder: str | Path) -> Run:
    """Read a run's folder, finished or not, also while a search runs in it.

    Raises StudyError where the folder holds no ledger, and DataError where a file of the study's data is gone.
    """
    ledger, study = reopen(Path(folder))
    dev, test = read_results(ledger, study, read_data(study))
    return Run(
        folder=study.folder,
        study=study,
        complete=ledger.complete,
        dev=dev,
        test=test,
        artefacts=kept_folders(study.folder, dev),
    )
