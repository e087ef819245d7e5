"""The stored translations of the points whose translations a report shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.ledger.kept_samples import statistics_of
from orchestrator.ledger.records import read_lines
from orchestrator.number_format import Unit
from orchestrator.results.points import Point
from orchestrator.results.step_labels import short_label
from search_spaces.errors import StudyError
from workers.evaluation.trial_lines import HypothesisLine
from workers.reading.segments import DataSet
from workers.scoring.metrics import NEURAL_METRICS, Statistics, segment_scores


@dataclass(frozen=True, slots=True)
class System:
    """One point's hypotheses."""

    label: str
    """The point's steps, or that it is the baseline."""
    size: str
    """The point's size, as it is shown."""
    is_baseline: bool
    """Whether it is the baseline."""
    hypotheses: tuple[str, ...]
    """Its hypotheses, in the data set's order."""
    values: tuple[float, ...] | None = None
    """Score of each hypothesis, where the quality is their mean; else None."""
    number: int = 0
    """The number of the point's trial."""
    scores: tuple[float, ...] = ()
    """Score of each hypothesis in the quality, in its points."""
    truncated: tuple[bool, ...] = ()
    """Whether the length limit cut each hypothesis."""
    statistics: Statistics | None = None
    """The quality's statistics of each segment; None for a metric that is known by its values alone, or where they are
    to be worked out."""
    failed: tuple[tuple[str, ...] | None, ...] = ()
    """The sanity checks that each hypothesis failed; None where the trial did not keep them."""


def read_systems(folder: Path, points: Sequence[Point], dataset: DataSet, unit: Unit) -> list[System]:
    """The stored hypotheses of each point; raises StudyError where they are not one a segment."""
    systems = []
    for point in points:
        lines = read_lines(folder, point.record)
        if len(lines) != len(dataset.segments):
            raise StudyError(
                f"{folder / str(point.record.hypotheses)} holds {len(lines)} hypotheses for the "
                f"{len(dataset.segments)} segments of {dataset.name}; report with the data the study was run on"
            )
        kept = _kept_scores(lines, point.metric)
        hypotheses, is_neural = tuple(line["text"] for line in lines), point.metric in NEURAL_METRICS
        systems.append(
            System(
                label=short_label(point.record.candidate),
                size=unit.text(point.bytes),
                is_baseline=not point.steps,
                hypotheses=hypotheses,
                values=kept if is_neural else None,
                statistics=None if is_neural else statistics_of(folder, point.record, dataset, point.metric),
                number=point.record.number,
                scores=_scores(dataset, hypotheses, point.metric) if kept is None else kept,
                truncated=tuple(line["truncated"] for line in lines),
                failed=tuple(tuple(line["failed"]) if "failed" in line else None for line in lines),
            )
        )
    return systems


def _kept_scores(lines: Sequence[HypothesisLine], metric: str) -> tuple[float, ...] | None:
    if any(metric not in line.get("scores", {}) for line in lines):
        return None
    return tuple(float(line["scores"][metric]) for line in lines)


def _scores(dataset: DataSet, hypotheses: Sequence[str], metric: str) -> tuple[float, ...]:
    """Worked out again; empty for a metric that needs a model."""
    if metric in NEURAL_METRICS:
        return ()
    return tuple(row[metric] for row in segment_scores([metric], dataset.segments, hypotheses))
