"""How a trial ended: a Measurement, a Speed, a Probe or a Failure, and nothing else; NaN and infinity are refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from search_spaces.curve import Curve, curve_from_json
from search_spaces.methods.family import Family, family_from_json

# All other metrics are better when higher.
LOWER_IS_BETTER = frozenset({"ter"})

Reason = Literal["out_of_memory", "unsupported", "empty_output", "not_finite", "lost", "error"]


@dataclass(frozen=True, slots=True)
class Score:
    """A corpus score and the sacreBLEU signature it was taken under."""

    value: float
    signature: str

    def __post_init__(self) -> None:
        _finite("score", self.value)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes on disk of every file needed to run (weights, config, tokenizer), and how many parameters they hold.

    compressed_fraction: share of the targeted weights, by parameters, whose stored form changed (1.0 when none
    is targeted).
    """

    bytes: int
    parameters: int
    compressed_fraction: float = 1.0

    def __post_init__(self) -> None:
        if self.bytes <= 0:
            raise ValueError(f"footprint.bytes is {self.bytes}; a model takes at least one byte")
        _finite("compressed_fraction", self.compressed_fraction)


@dataclass(frozen=True, slots=True)
class Race:
    """Why a trial was stopped before its last rung."""

    verdict: Literal["dominated", "below the floor", "tie"]
    """One of "dominated" (worse, for sure, than a point of no more bytes), "below the floor" (below a share of the
    baseline's quality, for sure) and "tie" (within the margin of a point of no more bytes)."""
    by: int
    """Trial number of that point; for the floor, the baseline's."""
    segments: int
    """How many segments were translated."""
    low: float
    """Lower end of the anytime-valid interval of candidate minus that point, or the floor, in mean segment quality."""
    high: float
    """Upper end of the same interval."""
    projected: float
    """Quality of that point, or the floor, plus the difference seen."""
    floor: float = 0.0
    """The share of the baseline's quality where the verdict is "below the floor"; else 0."""

    def __post_init__(self) -> None:
        for name in ("low", "high", "projected", "floor"):
            _finite(name, getattr(self, name))


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a trial measured."""

    scores: Mapping[str, Mapping[str, Score]]
    """Metric -> language pair -> Score."""
    footprint: Footprint
    """Bytes on disk and parameters."""
    seconds: Mapping[str, float]
    """Stage -> seconds spent in it."""
    segments: int
    """How many segments were translated."""
    tokens: int
    """How many tokens were generated."""
    truncated: int = 0
    """How many hypotheses reached the length limit or had a source that was cut to the context."""
    artefact: str = ""
    """The key, in the artefact store, of the model that was scored; empty for the baseline."""
    notes: tuple[str, ...] = ()
    """Facts for the trial's record, a line each."""
    conditions: Mapping[str, str] = field(default_factory=dict)
    """What the trial ran under, by name."""
    sanity: Mapping[str, float] = field(default_factory=dict)
    """Check -> share of the hypotheses that failed it."""
    race: Race | None = None
    """None when every segment was translated; else `scores` are of the segments that were."""
    curves: tuple[Curve, ...] = ()
    """One for each step that trained, in the order of the steps."""
    divergence: Mapping[str, float] = field(default_factory=dict)
    """Language pair -> mean KL from the base model in nats, on calibration pairs; empty where it was not measured."""

    def __post_init__(self) -> None:
        if not self.scores or any(not by_pair for by_pair in self.scores.values()):
            raise ValueError("a measurement needs at least one score for at least one pair")
        for stage, value in self.seconds.items():
            _finite(f"seconds[{stage}]", value)
        for check, share in self.sanity.items():
            _finite(f"sanity[{check}]", share)
        for langs, value in self.divergence.items():
            _finite(f"divergence[{langs}]", value)

    def overall(self, metric: str) -> float:
        """The mean over language pairs, never pooled."""
        by_pair = self.scores[metric]
        return sum(score.value for score in by_pair.values()) / len(by_pair)

    @property
    def nats(self) -> float:
        """The mean divergence over language pairs; nan where it was not measured."""
        return sum(self.divergence.values()) / len(self.divergence) if self.divergence else math.nan

    def worst_pair(self, metric: str) -> tuple[str, float]:
        """The pair with the worst score, and that score."""
        worst = max if metric in LOWER_IS_BETTER else min
        pair = worst(sorted(self.scores[metric]), key=lambda name: self.scores[metric][name].value)
        return pair, self.scores[metric][pair].value

    def to_json(self) -> dict[str, Any]:
        """The measurement as a JSON object, told apart from a failure by its key `kind`."""
        curves = [curve.to_json() for curve in self.curves]
        return {"kind": "measurement", **asdict(self), "notes": list(self.notes), "curves": curves}


@dataclass(frozen=True, slots=True)
class Failure:
    """A candidate that could not be measured: why, in which stage, and in words that say what to do. family: of what
    other candidates it says the same."""

    reason: Reason
    stage: str
    message: str
    family: Family | None = None

    def to_json(self) -> dict[str, Any]:
        """The failure as a JSON object, told apart from a measurement by its key `kind`."""
        record = {"kind": "failure", "reason": self.reason, "stage": self.stage, "message": self.message}
        return record | ({"family": self.family.to_json()} if self.family else {})


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a model runs as it ships, and what it takes; or the reason why that was not measured."""

    tokens_s: Mapping[int, float] = field(default_factory=dict)
    """Batch size -> generated tokens a second, with the time to read the prompts included."""
    latency: float | None = None
    """Seconds that one segment takes alone."""
    load_seconds: float | None = None
    """Seconds from files to a model on the device."""
    peak_bytes: int | None = None
    """Torch's peak of allocated memory over load and decoding; None on a CPU."""
    weights_bytes: int | None = None
    """Bytes of the weights on the device."""
    kernels: tuple[str, ...] = ()
    """What computed the linear layers."""
    reason: str | None = None
    """Why the speed was not measured; None where it was."""
    conditions: Mapping[str, str] = field(default_factory=dict)
    """What it was measured under, by name."""

    def __post_init__(self) -> None:
        if bool(self.tokens_s) == (self.reason is not None):
            raise ValueError("a speed is either measured, or there is a reason why not")
        for batch, value in self.tokens_s.items():
            _finite(f"tokens_s[{batch}]", value)

    def figures(self) -> dict[str, float]:
        """Its numbers by flat names; empty where it was not measured."""
        named = {f"tokens_s_b{batch}": value for batch, value in self.tokens_s.items()}
        others = {
            "latency_s": self.latency,
            "load_s": self.load_seconds,
            "peak_bytes": self.peak_bytes,
            "weights_bytes": self.weights_bytes,
        }
        return named | {name: float(value) for name, value in others.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """The speed as a JSON object, told apart from other outcomes by its key `kind`."""
        tokens_s = {str(batch): value for batch, value in self.tokens_s.items()}
        return {"kind": "speed", **asdict(self), "tokens_s": tokens_s, "kernels": list(self.kernels)}


@dataclass(frozen=True, slots=True)
class Probe:
    """What a candidate does to the model's distributions, with nothing translated: a part of a profile."""

    divergence: Mapping[str, float]
    """Language pair -> mean KL from the base model in nats, on calibration pairs."""
    bytes: int
    """Bytes on disk of every file needed to run."""
    seconds: Mapping[str, float]
    """Stage -> seconds spent in it."""
    notes: tuple[str, ...] = ()
    """Facts for the trial's record, a line each."""

    def __post_init__(self) -> None:
        if not self.divergence:
            raise ValueError("a probe needs the divergence of at least one pair")
        for langs, value in self.divergence.items():
            _finite(f"divergence[{langs}]", value)

    @property
    def nats(self) -> float:
        """The mean over language pairs."""
        return sum(self.divergence.values()) / len(self.divergence)

    def to_json(self) -> dict[str, Any]:
        """The probe as a JSON object, told apart from other outcomes by its key `kind`."""
        return {"kind": "probe", **asdict(self), "notes": list(self.notes)}


Outcome = Measurement | Failure | Speed | Probe


def outcome_from_json(record: Mapping[str, Any]) -> Outcome:
    """The outcome that `to_json` wrote."""
    rest = {key: value for key, value in record.items() if key != "kind"}
    if record["kind"] == "failure":
        family = rest.pop("family", None)
        return Failure(**rest, family=family_from_json(family) if family else None)
    if record["kind"] == "speed":
        tokens_s = {int(batch): value for batch, value in rest["tokens_s"].items()}
        return Speed(**{**rest, "tokens_s": tokens_s, "kernels": tuple(rest["kernels"])})
    if record["kind"] == "probe":
        return Probe(**{**rest, "notes": tuple(rest["notes"])})
    rest["scores"] = {
        metric: {pair: Score(**score) for pair, score in by_pair.items()}
        for metric, by_pair in record["scores"].items()
    }
    rest["footprint"] = Footprint(**record["footprint"])
    rest["notes"] = tuple(record["notes"])
    rest["race"] = Race(**race) if (race := record.get("race")) else None
    rest["curves"] = tuple(curve_from_json(curve) for curve in record.get("curves", ()))
    return Measurement(**rest)


def _finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}; a measured number is finite. Report a Failure instead")
