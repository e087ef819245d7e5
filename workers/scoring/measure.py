"""The numbers of a candidate's hypotheses: corpus and segment scores in every metric of its plan, and sanity shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from search_spaces.outcome import Score
from workers.plan.evaluation_plan import EvaluationPlan
from workers.reading.segments import Segment
from workers.scoring.metrics import NEURAL_METRICS, lines_by_pair, scores_by_pair, segment_scores

Scores = dict[str, dict[str, Score]]
Row = dict[str, float]


def neural_model(metric: str, named: str | None) -> str:
    """What COMET's loader is to load for a neural metric: `named`, the study's own, is for `comet`."""
    return named if named is not None and metric == "comet" else metric


def segment_rows(plan: EvaluationPlan, segments: Sequence[Segment], texts: Sequence[str]) -> list[Row]:
    """For each segment, metric -> its score, in the plan's order of metrics; COMET's times 100."""
    rows = segment_scores([name for name in plan.metrics if name not in NEURAL_METRICS], segments, texts)
    for metric in plan.metrics:
        if metric in NEURAL_METRICS:
            for row, score in zip(rows, _neural_scores(metric, plan, segments, texts), strict=True):
                row[metric] = score
    return [{metric: row[metric] for metric in plan.metrics} for row in rows]


def corpus_scores(
    plan: EvaluationPlan, segments: Sequence[Segment], texts: Sequence[str], rows: Sequence[Mapping[str, float]]
) -> Scores:
    """metric -> pair -> corpus score. rows: the segments' own scores, whose mean is a neural metric's corpus score."""
    lines = lines_by_pair(segments)
    scores: Scores = {}
    for metric in plan.metrics:
        if metric in NEURAL_METRICS:
            signature = _signature(neural_model(metric, plan.comet_model))
            scores[metric] = {
                pair: Score(fmean(rows[line][metric] for line in at), signature) for pair, at in lines.items()
            }
        else:
            scores |= scores_by_pair([metric], segments, texts)
    return scores


def measure(plan: EvaluationPlan, segments: Sequence[Segment], texts: Sequence[str]) -> tuple[Scores, list[Row]]:
    """Stored hypotheses in every metric of a plan: corpus scores, and each segment's own."""
    rows = segment_rows(plan, segments, texts)
    return corpus_scores(plan, segments, texts, rows), rows


def _neural_scores(metric: str, plan: EvaluationPlan, segments: Sequence[Segment], texts: Sequence[str]) -> list[float]:
    from workers.comet.scores import comet_scores

    sources = [segment.source for segment in segments]
    references = [segment.references for segment in segments]
    return comet_scores(neural_model(metric, plan.comet_model), sources, list(texts), references, plan.store)


def _signature(model: str) -> str:
    from workers.comet.scores import comet_signature

    return comet_signature(model)
