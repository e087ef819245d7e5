"""Magnitude sparsity: the smallest weights of each output row become zero, nothing is calibrated."""

from __future__ import annotations

from pathlib import Path

from search_spaces.methods.pruners import Magnitude
from workers.compression.pruning.write_sparse import by_score, write_sparse
from workers.plan.compression_context import CompressionContext, Report


def compress(parent: Path, out: Path, step: Magnitude, context: CompressionContext) -> Report:
    """Write the sparse checkpoint to `out`; ValueError for a weight that is not finite.

    Reference: Han et al. 2015, https://arxiv.org/abs/1506.02626 §3.
    """
    return write_sparse(parent, out, by_score(step, lambda name, weight: weight.abs()), context)
