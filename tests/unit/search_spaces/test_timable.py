"""What a CPU can time as it ships, and a search that leaves the timing out where that is the baseline alone."""

from __future__ import annotations

import pytest

from search_spaces.methods.pruners import Magnitude, RemoveLayers
from search_spaces.methods.quantizers import GPTQ, BitsAndBytes, QuantizeEmbeddings
from search_spaces.methods.registry import Step
from search_spaces.methods.timable import timable_on_cpu
from search_spaces.methods.trainers import Finetune, Recover


@pytest.mark.parametrize(
    ("steps", "timable"),
    [
        ((), True),
        ((RemoveLayers(count=1),), True),
        ((BitsAndBytes(format="int8"),), True),
        ((RemoveLayers(count=1), Finetune()), True),
        ((RemoveLayers(count=1), Recover(merged=True)), True),
        ((RemoveLayers(count=1), Recover(merged=False)), False),
        ((GPTQ(bits=4),), False),
        ((RemoveLayers(count=1), GPTQ(bits=4)), False),
        ((QuantizeEmbeddings(bits=8),), False),
        ((Magnitude(sparsity=0.5),), False),
    ],
)
def test_a_cpu_times_what_needs_no_gpus_kernels(steps: tuple[Step, ...], timable: bool) -> None:
    assert timable_on_cpu(steps) is timable
