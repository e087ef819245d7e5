"""`mtpareto rescore`: a run's stored hypotheses in further metrics, with no model of translation and no GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from orchestrator.cluster.join import Joined, join
from orchestrator.finish.run_folder import read_data, refuse_changed_data, reopen
from orchestrator.ledger.records import Ledger, TrialRecord, read_lines
from orchestrator.ledger.rescored import read_rescored, trial_key, write_rescored
from orchestrator.stopping.signals import RunningCommand
from orchestrator.study.spec import StudySpec
from search_spaces.errors import StudyError
from search_spaces.outcome import Score
from workers.plan.evaluation_plan import EvaluationPlan, data_split
from workers.reading.segments import DataSet, Segment
from workers.scoring.measure import measure, neural_model
from workers.scoring.metrics import NEURAL_METRICS, known_metrics

Said = Callable[[str], None]


def rescore(
    folder: Path, metrics: Sequence[str], say: Said, comet_model: str | None = None, work: RunningCommand | None = None
) -> Path:
    """Score every trial's hypotheses in these metrics into `rescored.json`; returns its path.

    What the file held in other metrics stays. A trial that a race ended is scored on the segments that it translated.
    comet_model: as the study's own, which is the default. Raises UserError for a metric that does not exist, for data
    that has changed, for hypotheses that are gone, and for a COMET that can't be had.
    """
    names = known_metrics(metrics, neural=True)
    ledger, spec = reopen(folder)
    data = read_data(spec)
    refuse_changed_data(ledger, data, spec.folder)
    plan = EvaluationPlan(
        data=data,
        calibration=None,
        metrics=names,
        decoding=spec.decoding,
        store=spec.store_folder,
        seed=spec.seed,
        comet_model=comet_model or spec.comet_model,
    )
    joined = _reach_comet(plan, spec, work) if set(names) & set(NEURAL_METRICS) else None
    try:
        scored = _score_all(ledger, spec.folder, plan, say)
    finally:
        if joined is not None:
            joined.leave()
    return write_rescored(spec.folder, {**read_rescored(spec.folder), **scored})


def pair_hypotheses(folder: Path, record: TrialRecord, dataset: DataSet) -> tuple[list[Segment], list[str]]:
    """The segments that a trial translated, and its hypotheses; raises StudyError where they are not the data set's."""
    lines = read_lines(folder, record)
    by_id = {segment.id: segment for segment in dataset.segments}
    strange = next((line["id"] for line in lines if line["id"] not in by_id), None)
    if strange is not None:
        raise StudyError(
            f"{folder / str(record.hypotheses)} has a hypothesis of {strange!r}, which {dataset.name} does not hold; "
            "score with the data the study was run on"
        )
    return [by_id[line["id"]] for line in lines], [line["text"] for line in lines]


def _score_all(ledger: Ledger, folder: Path, plan: EvaluationPlan, say: Said) -> dict[str, dict[str, dict[str, Score]]]:
    scored: dict[str, dict[str, dict[str, Score]]] = {metric: {} for metric in plan.metrics}
    measured = [record for record in ledger.trials if record.measurement is not None]
    for count, record in enumerate(measured, start=1):
        segments, texts = pair_hypotheses(folder, record, plan.data[data_split(record.split)])
        scores, _ = measure(plan, segments, texts)
        for metric in plan.metrics:
            scored[metric][trial_key(record)] = scores[metric]
        spelt = ", ".join(f"{metric} {_mean(scores[metric]):.2f}" for metric in plan.metrics)
        say(f"[{count}/{len(measured)}] {record.candidate.describe() or 'baseline'} on {record.split}: {spelt}")
    return scored


def _reach_comet(plan: EvaluationPlan, spec: StudySpec, work: RunningCommand | None) -> Joined:
    """Make sure that COMET can be had before anything is scored; returns the Ray that it runs on."""
    from workers.comet.environment import comet_python
    from workers.comet.files import refuse_unreachable

    for metric in plan.metrics:
        if metric in NEURAL_METRICS:
            refuse_unreachable(neural_model(metric, plan.comet_model))
    comet_python()
    return join(spec.address, work)


def _mean(by_pair: Mapping[str, Score]) -> float:
    return sum(score.value for score in by_pair.values()) / len(by_pair)
