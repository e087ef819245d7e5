"""What every candidate of a study is measured under."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from search_spaces.methods.registry import Step
from search_spaces.parameters import DEFAULT_CALIBRATION_TOKENS
from workers.reading.segments import DataSet
from workers.reading.training_data import TrainingData
from workers.translation.decoding import Decoding

RACED_SPLIT = "dev"
# Not data: what a trial is called that measures a frontier point's speed.
SPEED_SPLIT = "speed"
# Nor this: a trial that measures what one option does to the model by itself.
PROFILE_SPLIT = "profile"
# Nor these: the uncompressed model trained as a candidate was, on the data of the split that each names.
CONTROL_SPLITS = {"control": "dev", "control_test": "test"}
# How a point is timed: at these batch sizes so many new tokens a segment, once to warm up and so often to count.
SPEED_BATCHES = (1, 8, 64)
SPEED_TOKENS = 64
SPEED_REPEATS = 3


def data_split(split: str) -> str:
    """The split whose data a trial is measured on."""
    return CONTROL_SPLITS.get(split, split)


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What every candidate of a study is measured under."""

    data: Mapping[str, DataSet]
    """Split ("dev", "test") -> its data set."""
    calibration: DataSet | None
    """Pairs for methods that look at activations."""
    metrics: tuple[str, ...]
    """What is measured; the first metric is the quality."""
    decoding: Decoding
    """How every candidate translates."""
    store: Path
    """The artefact store's folder."""
    _: KW_ONLY
    seed: int = 0
    """Seed of everything that is drawn at random."""
    device_map: str = "auto"
    """Where a model goes: "auto" for as few GPUs as hold it, "balanced" for all that the process has, or a device."""
    memory_fraction: float | None = None
    """The share of a GPU's memory that this process may take; None is no limit."""
    trust_remote_code: bool = False
    """Whether code that comes with the model may run."""
    calibration_tokens: int = DEFAULT_CALIBRATION_TOKENS
    """How many tokens calibration statistics are taken over."""
    calibration_text: tuple[str, ...] = ()
    """Lines of running text to take the statistics over instead of the pairs."""
    rungs: tuple[int, ...] = ()
    """After how many segments a race looks at the evidence, ascending; () is no racing."""
    comet_model: str | None = None
    """The COMET model's hub id or checkpoint file; None is each metric's usual one."""
    training: TrainingData | None = None
    """What steps that train read; None where the study names no training data."""
    training_processes: int = 1
    """How many processes train one candidate together."""
    divergence: bool = False
    """Whether each candidate's divergence from the base model is measured, on calibration pairs."""
    start: tuple[Step, ...] = ()
    """Trainings with which candidates begin: what they make of the base model is then the teacher of the steps after
    them, and what divergences are from."""
    languages: Mapping[str, str] = field(default_factory=dict)
    """Language code -> its name, for codes that the tables lack or name otherwise."""
