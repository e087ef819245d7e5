"""Wanda: the weights of smallest |weight| × ‖activation‖ of each output row become zero, what stays is untouched."""

from __future__ import annotations

from pathlib import Path

import torch

from search_spaces.methods.pruners import Wanda
from workers.calibration.calibrate import statistics_of
from workers.calibration.shared_inputs import once_an_input
from workers.compression.pruning.write_sparse import by_score, write_sparse
from workers.plan.compression_context import CompressionContext, Report


def compress(parent: Path, out: Path, step: Wanda, context: CompressionContext) -> Report:
    """Write the sparse checkpoint to `out`.

    Raises StudyError without enough calibration pairs, ValueError for a weight or an activation that is not finite.
    Reference: Sun et al. 2023, https://arxiv.org/abs/2306.11695 §3.
    """
    statistics = statistics_of(parent, context)
    norm = once_an_input(statistics, lambda name: statistics.norm(name, context.device))
    return write_sparse(parent, out, by_score(step, lambda name, weight: scores(weight, norm(name))), context)


def scores(weight: torch.Tensor, norm: torch.Tensor) -> torch.Tensor:
    """|weight| × norm, float32 (rows, columns); norm: root mean square of each input, (columns,).

    The paper's ‖X‖₂ is this times the root of the number of tokens, which ranks alike.
    """
    return weight.float().abs() * norm
