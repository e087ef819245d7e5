"""All that a page of results is made of, read from a run; and its points as the data that judge have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.ledger.records import Ledger, TrialRecord
from orchestrator.number_format import Unit
from orchestrator.report.markdown.differences import Differences
from orchestrator.report.published.points_file import PublishedPoint
from orchestrator.results.answers import Kept, candidates, judged_by, kept_on_mean, kept_on_worst_pair
from orchestrator.results.control import ControlArms
from orchestrator.results.cost import Cost, cost_of
from orchestrator.results.labels import unit_for
from orchestrator.results.points import Point, Results
from search_spaces.sizes.byte_parts import ByteParts
from workers.reading.segments import DataSet


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """The model that a study's baseline was made of, before that."""

    name: str
    revision: str
    made_by: str
    """The steps that made the baseline, in words."""
    scores: Mapping[str, float]
    """Metric -> the mean over language pairs, on the data that judge; empty where it was not measured there."""


@dataclass(frozen=True, slots=True)
class Contamination:
    """Whether the training data hold what the study measures on."""

    said: str
    """In words."""
    left_out: int | None
    """How many texts were left out of the training data for that; None where it was not checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContent:
    """What a page is made of."""

    name: str
    """The pages' file name, without a suffix."""
    title: str
    note: str
    """What its user says of the model; empty without."""
    command: str
    """The command that makes the page again."""
    study_file: str
    """The study, as YAML."""
    folder: Path
    ledger: Ledger
    dev: Results
    dev_data: DataSet
    test: Results | None
    test_data: DataSet | None
    controls: ControlArms
    parts: Mapping[int, ByteParts]
    """Trial number -> where its bytes are."""
    zero_shot: ZeroShot | None
    contamination: Contamination
    published: Sequence[PublishedPoint]
    differences: Differences | None
    quotes: bool = True
    """Whether segments are quoted."""

    @property
    def judged(self) -> Results:
        """The results that shares are of."""
        return judged_by(self.dev, self.test)

    @property
    def of_test(self) -> bool:
        return self.judged is self.test

    @property
    def where(self) -> str:
        """The data that shares are of, in words."""
        return "the held-out test" if self.of_test else "dev, which also chose the points"

    @property
    def shown(self) -> list[Point]:
        """The baseline, the frontier and what is not told apart from it, as dev has them, from the largest."""
        return self.dev.shown

    def on_judged(self, point: Point) -> Point | None:
        """The point on the data that judge."""
        digest = point.record.candidate.digest
        return next((one for one in self.judged.points if one.record.candidate.digest == digest), None)

    def kept(self, point: Point) -> tuple[Kept, Kept] | None:
        """What a compressed point keeps of the baseline on the data that judge: on the mean, and of the pair of which
        it keeps least; None where it was not measured there."""
        there, baseline = self.on_judged(point), self.judged.baseline
        if there is None or baseline is None or baseline.quality <= 0 or not point.steps:
            return None
        number = point.record.number
        return kept_on_mean(there, baseline, number), kept_on_worst_pair(there, baseline, number)

    @property
    def standing(self) -> list[tuple[Kept, Kept]]:
        """Of each compressed point that may stand what it keeps on the mean, and of the pair of which it keeps
        least."""
        means = candidates(self.dev, self.judged, kept_on_mean)
        return list(zip(means, candidates(self.dev, self.judged, kept_on_worst_pair), strict=True))

    @property
    def unit(self) -> Unit:
        return unit_for([*self.dev.points, *self.dev.dropped])

    @property
    def gpu_share(self) -> float | None:
        share = self.ledger.header["spec"].get("gpus_per_trial")
        return None if share is None else float(share)

    @property
    def cost(self) -> Cost:
        """What the study took."""
        return cost_of(self.ledger.of_all_splits, self.gpu_share)

    @property
    def clock(self) -> str:
        """Whose minutes are counted."""
        return "GPU" if self.cost.gpu_hours else "Worker"

    def minutes(self, point: Point) -> float:
        """What a point's own trials took, on whatever data: of GPUs, or of workers where none held a GPU."""
        return self.minutes_of([one for one in self.ledger.of_all_splits if one.candidate == point.record.candidate])

    def minutes_of(self, records: Sequence[TrialRecord]) -> float:
        cost = cost_of(records, self.gpu_share)
        return 60 * (cost.gpu_hours if self.cost.gpu_hours else cost.worker_hours)


def training_tokens(point: Point) -> int:
    """How many tokens the point's trainings read."""
    return sum(curve.points[-1][0] for curve in point.measurement.curves)
