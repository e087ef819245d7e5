"""What `main.py` and `mtpareto measure` do: one candidate evaluated as in a trial, written to a folder of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.commands.single_files import FILES, Line, refuse_unwritable, write_files
from orchestrator.environment import prepare
from orchestrator.number_format import spell_bytes, spell_seconds
from orchestrator.progress.single import follow_stages
from orchestrator.stopping.signals import RunningCommand
from orchestrator.study.base_model import describe_base, refuse_unaskable
from orchestrator.study.shipped import SHIPPED_CALIBRATION, SHIPPED_MODEL
from orchestrator.study.spec import NO_LANGUAGE_CHECK, know_languages
from orchestrator.study.splits import spell_left_out
from search_spaces.candidate import Candidate, refuse_senseless_order
from search_spaces.methods.registry import Step
from search_spaces.outcome import Failure, Measurement
from search_spaces.predicted_size import predicted_bytes
from workers.evaluation.attempt import attempt
from workers.loading.opening import open_model, origin_of
from workers.plan.evaluation_plan import EvaluationPlan
from workers.reading.dataset import read_dataset
from workers.reading.segments import DataSet
from workers.runtime.torch_environment import prepare_torch
from workers.scoring.bins import bin_of, parse_bins
from workers.scoring.direction_check import refuse_wrong_direction
from workers.scoring.measure import neural_model
from workers.scoring.metrics import NEURAL_METRICS, known_metrics
from workers.scoring.sanity import spell_failures, unchecked_languages
from workers.scoring.summary import summarize
from workers.translation.decoding import DEFAULT_BATCH_SIZE, DEFAULT_MAX_NEW_TOKENS, Decoding

DEFAULT_METRICS = ("chrf", "bleu")
DEFAULT_BINS = "0-30,30-60,60-100"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureRequest:
    """One candidate and how it is measured; None takes the default."""

    data: str
    outdir: Path
    steps: tuple[Step, ...] = ()
    metrics: tuple[str, ...] = DEFAULT_METRICS
    bins: str = DEFAULT_BINS
    model: str | None = None
    revision: str | None = None
    device_map: str = "auto"
    max_new_tokens: int | None = None
    batch_size: int | None = None
    beams: int = 1
    prompt: str | None = None
    references: str | None = None
    langs: str | None = None
    languages: Mapping[str, str] = field(default_factory=dict)
    calibration: str | None = None
    comet_model: str | None = None
    seed: int = 0
    skip_bad_rows: bool = False
    trust_remote_code: bool = False
    check_languages: bool = True
    overwrite: bool = False


def measure_one(
    request: MeasureRequest, say: Callable[[str], None], work: RunningCommand | None = None
) -> Measurement | Failure:
    """Measure the candidate and write its files; a failure writes none. Raises UserError, with nothing written, for
    what can't be done. work: is told of a Ray that is started."""
    prepare_torch()
    metrics = known_metrics(request.metrics, neural=True)
    bins = parse_bins(request.bins)
    know_languages(request.languages)
    langs = [one.strip() for one in request.langs.split(",")] if request.langs else None
    dataset = read_dataset(
        request.data, references=request.references, langs=langs, skip_bad_rows=request.skip_bad_rows
    )
    if request.check_languages:
        refuse_wrong_direction(dataset.name, dataset.segments, NO_LANGUAGE_CHECK)
    refuse_unwritable(request.outdir, request.overwrite)
    plan = _plan(request, dataset, metrics)
    opened = open_model(
        request.model or str(SHIPPED_MODEL),
        request.revision,
        request.trust_remote_code,
        partial(predicted_bytes, steps=request.steps),
        compressed=bool(request.steps),
        store=plan.store,
        say=say,
    )
    refuse_unaskable(opened, request.prompt, [dataset], request.trust_remote_code)
    refuse_senseless_order(request.steps)
    candidate = Candidate(opened.base, request.steps)
    for line in (*spell_left_out(dataset), *describe_base(opened, plan.store)):
        say(line)
    with _comet(plan, work), follow_stages(say) as measure:
        outcome, hypotheses = attempt(candidate, "dev", plan, measure)
    if isinstance(outcome, Failure):
        say(f"failed, {outcome.reason} in {outcome.stage}: {outcome.message}")
        return outcome
    lines = [
        Line(
            segment=segment,
            text=line["text"],
            truncated=line["truncated"],
            scores=line["scores"],
            bin=bin_of(segment.human_score, bins),
            failed=tuple(line["failed"]),
        )
        for segment, line in zip(dataset.segments, hypotheses, strict=True)
    ]
    summary = {
        "config": _config(request, candidate, plan),
        "counts": _counts(dataset, outcome, lines),
        "sanity": dict(outcome.sanity),
        "metrics": summarize(
            outcome.scores, dataset.segments, [line.text for line in lines], [line.scores for line in lines], bins
        ),
        "measurement": outcome.to_json(),
    }
    write_files(request.outdir, summary, lines)
    _say_scores(summary, outcome, request.outdir, say)
    for check, languages in unchecked_languages(dataset.segments).items():
        say(f"note      the check {check.replace('_', ' ')!r} knows nothing of {', '.join(languages)}: it was not made")
    return outcome


@contextmanager
def _comet(plan: EvaluationPlan, work: RunningCommand | None) -> Iterator[None]:
    """A Ray for COMET's process where the plan asks for COMET: the cluster RAY_ADDRESS names, else one started here.

    Raises UserError before anything is translated when its model or its environment can't be had.
    """
    models = [neural_model(metric, plan.comet_model) for metric in plan.metrics if metric in NEURAL_METRICS]
    if not models:
        yield
        return
    from workers.comet.environment import comet_python
    from workers.comet.files import refuse_unreachable

    for model in models:
        refuse_unreachable(model)
    comet_python()
    prepare(None)
    from orchestrator.cluster.join import join

    joined = join(None, work)
    try:
        yield
    finally:
        joined.leave()


def _plan(request: MeasureRequest, dataset: DataSet, metrics: tuple[str, ...]) -> EvaluationPlan:
    decoding = Decoding(
        DEFAULT_MAX_NEW_TOKENS if request.max_new_tokens is None else request.max_new_tokens,
        DEFAULT_BATCH_SIZE if request.batch_size is None else request.batch_size,
        request.prompt,
        request.beams,
    )
    calibration = request.calibration or (str(SHIPPED_CALIBRATION) if SHIPPED_CALIBRATION.is_file() else None)
    return EvaluationPlan(
        data={"dev": dataset},
        calibration=read_dataset(calibration) if calibration else None,
        metrics=metrics,
        decoding=decoding,
        store=(request.outdir / "store").resolve(),
        seed=request.seed,
        device_map=request.device_map,
        trust_remote_code=request.trust_remote_code,
        comet_model=request.comet_model,
        languages=request.languages,
    )


def _config(request: MeasureRequest, candidate: Candidate, plan: EvaluationPlan) -> dict[str, Any]:
    return {
        "data": request.data,
        "model_id": candidate.base.name,
        **({"base_model": origin} if (origin := origin_of(candidate.base.name)) else {}),
        "revision": candidate.base.revision,
        "steps": candidate.describe(),
        "digest": candidate.digest,
        "device_map": request.device_map,
        "max_new_tokens": plan.decoding.max_new_tokens,
        "batch_size": plan.decoding.batch_size,
        "beams": plan.decoding.beams,
        "eval_metrics": list(plan.metrics),
        "bins": request.bins,
        "seed": request.seed,
    }


def _counts(dataset: DataSet, outcome: Measurement, lines: Sequence[Line]) -> dict[str, Any]:
    return {
        "segments": len(dataset.segments),
        "by_langpair": dict(sorted(Counter(segment.langs for segment in dataset.segments).items())),
        "truncated": outcome.truncated,
        "failing_a_check": sum(bool(line.failed) for line in lines),
        "without_reference": dataset.without_reference,
        "left_out": dict(dataset.left_out),
        "bad_rows": len(dataset.bad_rows),
    }


def _say_scores(summary: dict[str, Any], outcome: Measurement, outdir: Path, say: Callable[[str], None]) -> None:
    for metric, numbers in summary["metrics"].items():
        by_pair = [f"{pair} {value:.2f}" for pair, value in numbers["by_langpair"].items()]
        worst = f"worst {numbers['worst_pair']} {numbers['worst_pair_score']:.2f}" if len(by_pair) > 1 else ""
        say(f"{metric:<9} {numbers['overall']:.2f}  ({', '.join(by_pair)})  {worst}".rstrip())
    say(f"size      {spell_bytes(outcome.footprint.bytes)}")
    say(f"time      {spell_seconds(sum(outcome.seconds.values()))} for {outcome.segments} segments")
    if any(outcome.sanity.values()):
        say(f"sanity    of {outcome.segments} hypotheses: {spell_failures(outcome.sanity, outcome.segments)}")
    say(f"written   {outdir}/{', '.join(FILES)}")
