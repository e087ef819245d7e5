"""What every candidate of a study is measured under."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from workers.reading.segments import DataSet
from workers.reading.training_data import TrainingData
from workers.translation.decoding import Decoding

DEFAULT_CALIBRATION_TOKENS = 65_536
RACED_SPLIT = "dev"
# Not data: what a trial is called that measures a frontier point's speed.
SPEED_SPLIT = "speed"
# How a point is timed: at these batch sizes so many new tokens a segment, once to warm up and so often to count.
SPEED_BATCHES = (1, 8, 64)
SPEED_TOKENS = 64
SPEED_REPEATS = 3


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What every candidate of a study is measured under.

    data: split ("dev", "test") -> its data set. calibration: pairs for methods that look at activations. metrics: what
    is measured, the first being the quality. store: the artefact store's folder. device_map: "auto", "cpu", "cuda:N" or
    what accelerate knows. memory_fraction: the share of a GPU's memory this process may take. calibration_tokens: how
    many tokens calibration statistics are taken over. calibration_text: lines of running text to take them over instead
    of the pairs. rungs: after how many segments a race looks at the evidence, ascending; () is no racing. comet_model:
    the COMET model's hub id or checkpoint file; None is each metric's usual one. training: what steps that train read;
    training_processes: how many processes train one candidate together. languages: code -> the name it goes by, for
    codes that the tables lack or name otherwise.
    """

    data: Mapping[str, DataSet]
    calibration: DataSet | None
    metrics: tuple[str, ...]
    decoding: Decoding
    store: Path
    seed: int = 0
    device_map: str = "auto"
    memory_fraction: float | None = None
    trust_remote_code: bool = False
    calibration_tokens: int = DEFAULT_CALIBRATION_TOKENS
    calibration_text: tuple[str, ...] = ()
    rungs: tuple[int, ...] = ()
    comet_model: str | None = None
    training: TrainingData | None = None
    training_processes: int = 1
    languages: Mapping[str, str] = field(default_factory=dict)
