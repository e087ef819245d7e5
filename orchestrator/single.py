"""What `main.py` does: one candidate through the same evaluation as a trial, written to a folder of its own."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.progress import spell_bytes, spell_seconds
from orchestrator.study import SHIPPED_CALIBRATION, SHIPPED_MODEL
from search_spaces.candidate import Candidate
from search_spaces.methods import Step
from search_spaces.outcome import Failure, Measurement
from search_spaces.size import predicted_bytes
from workers.attempt import attempt
from workers.decoding import DEFAULT_BATCH_SIZE, DEFAULT_MAX_NEW_TOKENS, Decoding
from workers.evaluation import EvaluationPlan
from workers.model_files import read_checkpoint, resolve
from workers.reading import DataSet, read_dataset
from workers.scoring import known_metrics, segment_scores
from workers.summary import bin_of, parse_bins, summarize


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the one-candidate command was asked; None takes the default."""

    data: str
    outdir: Path
    steps: tuple[Step, ...]
    metrics: tuple[str, ...]
    bins: str
    model: str | None
    revision: str | None
    device_map: str
    max_new_tokens: int | None
    batch_size: int | None
    prompt: str | None
    references: str | None
    langs: str | None
    calibration: str | None
    seed: int
    skip_bad_rows: bool
    trust_remote_code: bool


def measure_one(request: Request, say: Callable[[str], None]) -> int:
    """Measure the candidate and write its files; returns 0, or 1 when it failed. Raises UserError, with nothing
    written, for what can't be done."""
    metrics = known_metrics(request.metrics)
    bins = parse_bins(request.bins)
    dataset = read_dataset(
        request.data, references=request.references, langs=request.langs, skip_bad_rows=request.skip_bad_rows
    )
    plan = _plan(request, dataset, metrics)
    base, folder = resolve(request.model or str(SHIPPED_MODEL), request.revision)
    candidate = Candidate(base, request.steps)
    predicted_bytes(read_checkpoint(folder), request.steps)
    for line in spell_left_out(dataset):
        say(line)
    outcome, hypotheses = attempt(candidate, "dev", plan)
    if isinstance(outcome, Failure):
        say(f"failed, {outcome.reason} in {outcome.stage}: {outcome.message}")
        return 1
    texts = [line["text"] for line in hypotheses]
    summary = {
        "config": _config(request, candidate, plan),
        "counts": _counts(dataset, outcome),
        "metrics": summarize(metrics, dataset.segments, texts, bins),
        "measurement": outcome.to_json(),
    }
    request.outdir.mkdir(parents=True, exist_ok=True)
    rows = segment_scores(metrics, dataset.segments, texts)
    _write_predictions(request.outdir / "predictions.jsonl", dataset, hypotheses, rows)
    _write_rows(
        request.outdir / "rows.csv", dataset, hypotheses, rows, [bin_of(s.human_score, bins) for s in dataset.segments]
    )
    (request.outdir / "summary.json").write_text(
        json.dumps(summary, ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
    )
    _say_scores(summary, outcome, request.outdir, say)
    return 0


def spell_left_out(dataset: DataSet) -> list[str]:
    """What of a file is not used, in words; empty when all of it is."""
    lines = [f"{dataset.name}: {count} left out ({reason})" for reason, count in dataset.left_out]
    if dataset.bad_rows:
        first = dataset.bad_rows[0]
        skipped = f"{len(dataset.bad_rows)} bad rows skipped, the first in line {first.line} ({first.reason})"
        lines.append(f"{dataset.name}: {skipped}")
    return lines


def _plan(request: Request, dataset: DataSet, metrics: tuple[str, ...]) -> EvaluationPlan:
    decoding = Decoding(
        DEFAULT_MAX_NEW_TOKENS if request.max_new_tokens is None else request.max_new_tokens,
        DEFAULT_BATCH_SIZE if request.batch_size is None else request.batch_size,
        request.prompt,
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
    )


def _config(request: Request, candidate: Candidate, plan: EvaluationPlan) -> dict[str, Any]:
    return {
        "data": request.data,
        "model_id": candidate.base.name,
        "revision": candidate.base.revision,
        "steps": candidate.describe(),
        "digest": candidate.digest,
        "device_map": request.device_map,
        "max_new_tokens": plan.decoding.max_new_tokens,
        "batch_size": plan.decoding.batch_size,
        "eval_metrics": list(plan.metrics),
        "bins": request.bins,
        "seed": request.seed,
    }


def _counts(dataset: DataSet, outcome: Measurement) -> dict[str, Any]:
    return {
        "segments": len(dataset.segments),
        "by_langpair": dict(sorted(Counter(segment.langs for segment in dataset.segments).items())),
        "truncated": outcome.truncated,
        "without_reference": dataset.without_reference,
        "left_out": dict(dataset.left_out),
        "bad_rows": len(dataset.bad_rows),
    }


def _write_predictions(
    path: Path, dataset: DataSet, hypotheses: Sequence[dict[str, Any]], rows: Sequence[dict[str, float]]
) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for segment, hypothesis, scores in zip(dataset.segments, hypotheses, rows, strict=True):
            references = segment.references
            line = {
                "id": segment.id,
                "langs": segment.langs,
                "src": segment.source,
                "ref": references[0] if len(references) == 1 else list(references),
                "pred": hypothesis["text"],
                "domain": segment.domain,
                "doc_id": segment.doc_id,
                "metrics": scores,
                "truncated": hypothesis["truncated"],
            }
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")


def _write_rows(
    path: Path,
    dataset: DataSet,
    hypotheses: Sequence[dict[str, Any]],
    rows: Sequence[dict[str, float]],
    bins: Sequence[str],
) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        names = list(rows[0]) if rows else []
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", "langs", "domain", "doc_id", "score", "bin", "truncated", *names])
        for segment, hypothesis, scores, name in zip(dataset.segments, hypotheses, rows, bins, strict=True):
            score = "" if segment.human_score is None else segment.human_score
            writer.writerow(
                [
                    segment.id,
                    segment.langs,
                    segment.domain,
                    segment.doc_id,
                    score,
                    name,
                    int(hypothesis["truncated"]),
                    *scores.values(),
                ]
            )


def _say_scores(summary: dict[str, Any], outcome: Measurement, outdir: Path, say: Callable[[str], None]) -> None:
    for metric, numbers in summary["metrics"].items():
        by_pair = ", ".join(f"{pair} {value:.2f}" for pair, value in numbers["by_langpair"].items())
        say(f"{metric:<7} {numbers['overall']:.2f}  ({by_pair})")
    say(f"size    {spell_bytes(outcome.footprint.bytes)}")
    say(f"time    {spell_seconds(sum(outcome.seconds.values()))} for {outcome.segments} segments")
    if outcome.truncated:
        say(f"cut     {outcome.truncated} segments reached a length limit (marked `truncated`)")
    say(f"written {outdir}/predictions.jsonl, rows.csv, summary.json")
