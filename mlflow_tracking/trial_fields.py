"""What a trial is in MLflow: the name, tags, parameters, metrics and curves of its run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mlflow_tracking.data_sets import MirroredData
from mlflow_tracking.experiment import DESCRIPTION_TAG
from mlflow_tracking.standing import described
from search_spaces.candidate import Candidate
from search_spaces.methods.registry import step_to_json
from search_spaces.outcome import Failure, Measurement, Outcome, Probe
from workers.scoring.metrics import worst

TRIAL_TAG = "mtpareto.trial"
# What a study's run and its trials share: its name.
NAME_TAG = "study"
# MLflow refuses longer parameter values (https://mlflow.org/docs/latest, "Log a param").
PARAM_LIMIT = 6000
# The mean over language pairs of how far a candidate lies from the base model, in nats.
DIVERGENCE = "divergence_nats"
# What a curve's points say, after their tokens (`search_spaces.curve.CurvePoint`).
SPEED_CURVE = "training_tokens_s"
CURVES = ("training_loss", SPEED_CURVE, "held_out_chrf")
MEGABYTE = 1_000_000
# What a metric says of a trial that it is not about; written only over another value, for MLflow removes none.
UNSAID = {"rank": 0.0}


@dataclass(frozen=True, slots=True)
class MirroredTrial:
    """A trial as the mirror needs it."""

    number: int
    """The trial's number, 0 for the baseline."""
    candidate: Candidate
    """What was tried."""
    split: str
    """The data that it was measured on."""
    outcome: Outcome
    """How the trial ended."""
    started: str
    """When it began: ISO 8601, UTC."""
    ended: str
    """When it ended: ISO 8601, UTC."""
    worker: str
    """The worker that ran it."""
    attempt: int
    """Which attempt it was, from 1."""
    more: Mapping[str, float]
    """Numbers that depend on the whole study, such as `on_frontier`."""
    words: Mapping[str, str] = field(default_factory=dict)
    """Texts that depend on the whole study, such as why a trial was dropped early; they become tags."""
    data: MirroredData | None = None
    """What it was measured on."""

    @property
    def uid(self) -> str:
        return f"{self.candidate.digest}.{self.split}"


def metric_key(metric: str, split: str = "dev") -> str:
    """What a metric is called in MLflow, whose names take no plus sign. On test, which judges and does not select, it
    has a name of its own (`test_chrf`), so that no table or plot mixes the two."""
    return _of_split(metric.replace("+", "p"), split)


def _of_split(name: str, split: str) -> str:
    return name if split == "dev" else f"{split}_{name}"


def name_of(trial: MirroredTrial) -> str:
    """Its number, at least three digits so that names sort, its steps in a few characters, and the split where it is
    not the one that the search selects on: `003 gptq 4-bit g64 · emb 8-bit g64`."""
    where = "" if trial.split == "dev" else f" [{trial.split}]"
    return f"{trial.number:03d} {label_of(trial)}{where}"


def label_of(trial: MirroredTrial) -> str:
    """The candidate's steps in a few characters."""
    return " · ".join(step.short_label() for step in trial.candidate.steps) or "baseline"


def tags_of(trial: MirroredTrial, parent: str) -> dict[str, str]:
    """The tags of its run below the study's. parent: that run's id."""
    tags = {
        TRIAL_TAG: trial.uid,
        "mlflow.parentRunId": parent,
        "kind": trial.candidate.kind,
        "split": trial.split,
        "worker": trial.worker,
        "attempt": str(trial.attempt),
    }
    if isinstance(trial.outcome, Failure):
        tags |= {
            "failure": trial.outcome.reason,
            "failure.stage": trial.outcome.stage,
            "failure.message": trial.outcome.message,
        }
    elif not isinstance(trial.outcome, Probe):
        tags |= {f"condition.{key}": value for key, value in trial.outcome.conditions.items()}
        if isinstance(trial.outcome, Measurement) and trial.outcome.notes:
            tags[DESCRIPTION_TAG] = described("", trial.outcome.notes)
    return tags


def params_of(trial: MirroredTrial) -> dict[str, str]:
    """What was tried, each step's parameters as `method.key`."""
    params = {
        "model": trial.candidate.base.name,
        "revision": trial.candidate.base.revision,
        "steps": trial.candidate.describe() or "baseline",
        "split": trial.split,
    }
    for step in trial.candidate.steps:
        record = step_to_json(step)
        params |= {f"{record['method']}.{key}": as_param(value) for key, value in record.items() if key != "method"}
    return params


def metrics_of(trial: MirroredTrial) -> dict[str, float]:
    """What was measured, and what the whole study adds."""
    metrics: dict[str, float] = {**trial.more}
    outcome = trial.outcome
    if not isinstance(outcome, Measurement):
        return metrics
    race = outcome.race
    for metric, by_pair in outcome.scores.items():
        # A raced trial's scores are of some segments only: under the metric's own name they would be compared.
        name = ("raced." if race else "") + metric_key(metric, trial.split)
        metrics[name] = outcome.overall(metric)
        values = {pair: score.value for pair, score in by_pair.items()}
        metrics[f"{name}.worst_pair"] = values[worst(metric, values)]
        metrics |= {f"{name}.{pair}": value for pair, value in values.items()}
    if race is not None:
        metrics |= {f"race.{name}": float(getattr(race, name)) for name in ("segments", "low", "high", "projected")}
    if outcome.divergence:
        metrics[DIVERGENCE] = outcome.nats
    of_split = {f"sanity.{check}": share for check, share in outcome.sanity.items()}
    of_split |= {f"seconds.{stage}": value for stage, value in outcome.seconds.items()}
    of_split |= {name: float(getattr(outcome, name)) for name in ("segments", "truncated", "tokens")}
    metrics |= {_of_split(name, trial.split): value for name, value in of_split.items()}
    return metrics | {
        "bytes": float(outcome.footprint.bytes),
        "bytes_mb": outcome.footprint.bytes / MEGABYTE,
        "compressed_fraction": outcome.footprint.compressed_fraction,
    }


def curves_of(outcome: Outcome) -> dict[str, list[tuple[int, float]]]:
    """metric -> (tokens read, value); the second step that trained has `training_loss_2`, and so on."""
    if not isinstance(outcome, Measurement):
        return {}
    found: dict[str, list[tuple[int, float]]] = {}
    for number, curve in enumerate(outcome.curves, start=1):
        for place, name in enumerate(CURVES, start=1):
            key = name if number == 1 else f"{name}_{number}"
            # Where a training begins there is no speed yet, and no loss.
            said = [point for point in curve.points if name != SPEED_CURVE or point[1] is not None]
            found[key] = [(point[0], value) for point in said if (value := point[place]) is not None]
    return {key: points for key, points in found.items() if points}


def as_param(value: Any) -> str:
    """The value as a text that MLflow takes."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text[:PARAM_LIMIT]


def milliseconds(moment: str) -> int:
    """An ISO 8601 moment as MLflow counts time."""
    return int(datetime.fromisoformat(moment).timestamp() * 1000)
