"""Speed as it is measured on a CPU: what is timed, what is counted, and the reasons why some folders are not."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from search_spaces.methods.pruners import Magnitude
from search_spaces.methods.quantizers import RTN, BitsAndBytes
from search_spaces.outcome import Speed, outcome_from_json
from tests.support.dense_reference import CPU
from tests.support.paths import CAPTIONS
from workers.compression.pruning import magnitude
from workers.compression.quantization import bitsandbytes, rtn
from workers.evaluation.speed import measure_speed, why_not_measured
from workers.loading.load import load_model
from workers.packed.held import held_bytes

DEVICE = torch.device("cpu")
SHIPPED = CAPTIONS
PROMPTS = [[1, 40, 7, 90, 33], [1, 8, 19]]


def test_a_dense_model_is_timed_at_every_batch() -> None:
    speed = measure_speed(SHIPPED, PROMPTS, DEVICE, batches=(1, 3), new_tokens=4)
    assert speed.reason is None
    assert set(speed.tokens_s) == {1, 3}
    assert speed.latency == pytest.approx(4 / speed.tokens_s[1])
    assert speed.load_seconds is not None
    assert speed.load_seconds > 0
    assert speed.peak_bytes is None
    assert speed.weights_bytes == held_bytes(load_model(SHIPPED, "cpu"))
    assert speed.kernels == ("torch",)
    assert outcome_from_json(json.loads(json.dumps(speed.to_json()))) == speed


def test_a_bitsandbytes_model_is_timed_on_a_cpu(tmp_path: Path) -> None:
    bitsandbytes.compress(SHIPPED, tmp_path, BitsAndBytes(format="nf4"), CPU)
    speed = measure_speed(tmp_path, PROMPTS, DEVICE, batches=(2,), new_tokens=3)
    assert speed.latency is None
    assert speed.tokens_s[2] > 0
    assert speed.kernels == ("bitsandbytes Linear4bit", "torch")
    assert speed.weights_bytes is not None
    assert speed.weights_bytes < held_bytes(load_model(SHIPPED, "cpu"))


def test_packed_weights_are_timed_on_a_gpu_alone(tmp_path: Path) -> None:
    rtn.compress(SHIPPED, tmp_path, RTN(bits=4), CPU)
    speed = measure_speed(tmp_path, PROMPTS, DEVICE)
    assert speed == Speed(reason="the kernels for packed weights need a GPU")
    assert outcome_from_json(json.loads(json.dumps(speed.to_json()))) == speed
    has_triton = find_spec("triton") is not None
    assert (why_not_measured(tmp_path, torch.device("cuda")) is None) == has_triton


def test_sparse_weights_are_timed_nowhere(tmp_path: Path) -> None:
    magnitude.compress(SHIPPED, tmp_path, Magnitude(sparsity=0.5), CPU)
    for device in ("cpu", "cuda"):
        assert "sparse" in str(why_not_measured(tmp_path, torch.device(device)))
    assert "sparse" in str(measure_speed(tmp_path, PROMPTS, DEVICE).reason)


def test_a_measurement_without_prompts_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one prompt"):
        measure_speed(SHIPPED, [], DEVICE, batches=(1,))
