"""What a CPU can time as it ships, and a search that leaves the timing out where that is the baseline alone."""

from __future__ import annotations

import pytest

from search_spaces.methods.pruners import Magnitude, RemoveLayers
from search_spaces.methods.quantizers import GPTQ, BitsAndBytes, QuantizeEmbeddings
from search_spaces.methods.registry import Step
from search_spaces.methods.timable import APART, NEEDS_GPU, SPARSE, TWO_LOADERS, timable_on_cpu, why_not_on_cpu
from search_spaces.methods.trainers import Finetune, Recover


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ((), None),
        ((RemoveLayers(count=1),), None),
        ((BitsAndBytes(format="int8"),), None),
        ((RemoveLayers(count=1), Finetune()), None),
        ((RemoveLayers(count=1), Recover(merged=True)), None),
        ((RemoveLayers(count=1), Recover(merged=False)), APART),
        ((GPTQ(bits=4),), NEEDS_GPU),
        ((RemoveLayers(count=1), GPTQ(bits=4)), NEEDS_GPU),
        ((QuantizeEmbeddings(bits=8),), NEEDS_GPU),
        ((BitsAndBytes(format="nf4"), QuantizeEmbeddings(bits=8)), TWO_LOADERS),
        ((Magnitude(sparsity=0.5),), SPARSE),
    ],
)
def test_a_cpu_times_what_needs_no_gpus_kernels(steps: tuple[Step, ...], why: str | None) -> None:
    assert why_not_on_cpu(steps) == why
    assert timable_on_cpu(steps) is (why is None)
