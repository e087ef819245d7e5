"""FP8 and W8A8 folders need nothing of this project: transformers, in a process of its own, computes the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from search_spaces.methods.quantizers import FP8, W8A8
from search_spaces.methods.registry import Step
from tests.support.dense_reference import CPU, logits, logits_by_transformers_alone
from workers.evaluation.methods import compress
from workers.loading.load import load_model


def test_transformers_alone_computes_the_same(save_llama: Any, tmp_path: Path) -> None:
    parent = save_llama(initializer_range=0.2)
    folders = []
    steps: list[Step] = [FP8(), FP8(activations=True), W8A8()]
    for number, step in enumerate(steps):
        folders.append(tmp_path / str(number))
        folders[-1].mkdir()
        compress(parent, folders[-1], step, CPU)
    found = logits_by_transformers_alone(folders, tmp_path)
    for folder, alone in zip(folders, found, strict=True):
        assert torch.equal(alone, logits(load_model(folder, "cpu")))
    assert (found[0] - found[1]).abs().max() > 0.01
    assert (found[1] - found[2]).abs().max() > 0.01
