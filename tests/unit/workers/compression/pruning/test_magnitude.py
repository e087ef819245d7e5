"""Magnitude sparsity: the smallest weights of each row go, as worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from search_spaces.methods.pruners import Magnitude
from workers.compression.pruning.magnitude import compress
from workers.plan.compression_context import CompressionContext
from workers.stored_forms.checkpoint import dense_tensors
from workers.translation.prompts import PROMPTS

CPU = CompressionContext((), PROMPTS["alma"], torch.device("cpu"), 0)
NAME = "model.layers.0.self_attn.k_proj"
SHAPE: dict[str, Any] = {
    "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1
}  # fmt: skip
ROWS = [
    [0.5, -4.0, 3.0, -0.25, 1.0, -2.0, 0.0, 8.0],
    [1.0, -1.0, 1.0, -1.0, 2.0, 2.0, -2.0, 2.0],
    [1.0, 2.0, 3.0, 4.0, -5.0, -6.0, -7.0, -8.0],
    [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0],
]


def sparse(save_llama: Any, out: Path, step: Magnitude) -> list[list[float]]:
    def set_rows(model: Any) -> None:
        model.get_submodule(NAME).weight.copy_(torch.tensor(ROWS))

    compress(save_llama(edit=set_rows, **SHAPE), out, step, CPU)
    found = {name: weight for name, weight, _ in dense_tensors(out, CPU.device)}
    rows: list[list[float]] = found[f"{NAME}.weight"].tolist()
    return rows


def test_a_quarter_of_each_row_goes_wherever_it_is_smallest(save_llama: Any, tmp_path: Path) -> None:
    # Two of eight go in every row; of equals the later columns go.
    assert sparse(save_llama, tmp_path, Magnitude(sparsity=0.25)) == [
        [0.5, -4.0, 3.0, 0.0, 1.0, -2.0, 0.0, 8.0],
        [1.0, -1.0, 0.0, 0.0, 2.0, 2.0, -2.0, 2.0],
        [0.0, 0.0, 3.0, 4.0, -5.0, -6.0, -7.0, -8.0],
        [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 0.0, 0.0],
    ]


def test_two_of_every_four_go(save_llama: Any, tmp_path: Path) -> None:
    assert sparse(save_llama, tmp_path, Magnitude(pattern="2:4")) == [
        [0.0, -4.0, 3.0, 0.0, 0.0, -2.0, 0.0, 8.0],
        [1.0, -1.0, 0.0, 0.0, 2.0, 2.0, 0.0, 0.0],
        [0.0, 0.0, 3.0, 4.0, 0.0, 0.0, -7.0, -8.0],
        [8.0, 7.0, 0.0, 0.0, 4.0, 3.0, 0.0, 0.0],
    ]
