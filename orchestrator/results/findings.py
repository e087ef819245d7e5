"""What a search learns from a trial that ended well: its losses, and whether it may stand on the frontier."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from orchestrator.statistics.frontier import Objectives, below_floor
from search_spaces.outcome import Failure, Measurement, Outcome, Probe, Speed, outcome_from_json
from workers.scoring.sanity import over_limits


@dataclass(frozen=True, slots=True)
class TrialFinding:
    """loss: the sampler's two objectives; the quality is projected where a race ended the trial, which is then `raced`.
    sanity: check -> the share of hypotheses that failed it."""

    loss: Objectives
    raced: bool = False
    sanity: Mapping[str, float] = field(default_factory=dict)
    nats: float | None = None
    """Its divergence from the baseline; None where it was not measured."""
    seconds: float = 0.0
    """What its trial took."""
    by_pair: Mapping[str, float] = field(default_factory=dict)
    """Language pair -> the quality."""

    def may_stand(self, baseline: TrialFinding | None, floor: float) -> bool:
        """Whether it may stand on the frontier: measured whole, within every sanity limit, and not below this share of
        the baseline's quality."""
        if self.raced or over_limits(self.sanity, baseline.sanity if baseline else None):
            return False
        return not below_floor(self.loss.quality, baseline.loss.quality if baseline else None, floor)


class ProbeFinding(NamedTuple):
    """What a probe found: the divergence in nats, and the seconds that it took."""

    nats: float
    seconds: float


Finding = TrialFinding | ProbeFinding | Speed


def finding_of(measurement: Measurement | None) -> TrialFinding | None:
    """What a ledger's measurement says; None for a failure. The quality is a measurement's first metric."""
    if measurement is None:
        return None
    race = measurement.race
    quality = measurement.overall(next(iter(measurement.scores))) if race is None else race.projected
    return TrialFinding(
        Objectives(quality, measurement.footprint.bytes),
        race is not None,
        measurement.sanity,
        _known(measurement.nats),
        sum(measurement.seconds.values()),
        {pair: score.value for pair, score in measurement.scores[next(iter(measurement.scores))].items()},
    )


def finding_in(result: Mapping[str, Any]) -> TrialFinding | None:
    """What Tune's last result of a trial says (`workers.evaluation.trial_actor.report`); None for a failure, or without
    numbers."""
    if result["failed"] or not math.isfinite(result.get("quality", math.nan)):
        return None
    return TrialFinding(
        Objectives(result["quality"], result["bytes"]),
        bool(result.get("raced")),
        dict(result.get("sanity", [])),
        _known(result.get("divergence", math.nan)),
        result.get("seconds", 0.0),
        dict(result.get("pairs", [])),
    )


def probe_in(result: Mapping[str, Any]) -> ProbeFinding | None:
    """The divergence and the seconds that Tune's last result of a probe says; None for a failure."""
    return None if result["failed"] else ProbeFinding(result["divergence"], result["seconds"])


def speed_in(result: Mapping[str, Any]) -> Speed | None:
    """The speed that Tune's last result of a timing holds; None for a failure."""
    return speed_of(outcome_from_json(json.loads(result["shipped"]))) if "shipped" in result else None


def speed_of(outcome: Outcome) -> Speed | None:
    """What a ledger's timing says; None for a failure."""
    return outcome if isinstance(outcome, Speed) else None


def probe_of(outcome: Outcome) -> ProbeFinding | None:
    """What a ledger's probe says; None for a failure."""
    return ProbeFinding(outcome.nats, sum(outcome.seconds.values())) if isinstance(outcome, Probe) else None


def _known(nats: float) -> float | None:
    return nats if math.isfinite(nats) else None


def failure_in(result: Mapping[str, Any]) -> Failure | None:
    """The failure that Tune's last result of a trial holds; None for a measurement."""
    outcome = outcome_from_json(json.loads(result["failure"])) if "failure" in result else None
    return outcome if isinstance(outcome, Failure) else None
