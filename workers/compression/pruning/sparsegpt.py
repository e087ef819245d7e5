"""SparseGPT: weights become zero column by column, and the columns that follow make up for each one's error."""

from __future__ import annotations

from pathlib import Path

import torch

from search_spaces.methods.pruners import SparseGPT
from workers.calibration.calibrate import statistics_of
from workers.calibration.damping import Dampings
from workers.calibration.hessian_inverse import inverse_factor
from workers.calibration.shared_inputs import once_an_input
from workers.compression.pruning.write_sparse import highest, refuse_uneven_fours, two_of_four, write_sparse
from workers.plan.compression_context import CompressionContext, Report

DAMPING = 0.01
BLOCK = 128


def compress(parent: Path, out: Path, step: SparseGPT, context: CompressionContext) -> Report:
    """Write the sparse checkpoint to `out`.

    Raises StudyError without calibration pairs, ValueError for a weight or an activation that is not finite. Reference:
    Frantar and Alistarh 2023, https://arxiv.org/abs/2301.00774 §3.
    """
    statistics = statistics_of(parent, context)
    dampings = Dampings(statistics.tokens)

    def inverse(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        hessian = statistics.hessian(name, context.device)
        return inverse_factor(hessian, DAMPING, dampings.hear), hessian.diagonal() == 0

    inverse_of = once_an_input(statistics, inverse)
    report = write_sparse(parent, out, lambda name, weight: sparsify(weight, *inverse_of(name), step), context)
    return report.with_notes(dampings.notes())


def sparsify(
    weight: torch.Tensor, factor: torch.Tensor, dead: torch.Tensor, step: SparseGPT
) -> tuple[torch.Tensor, torch.Tensor]:
    """The weight after pruning and its mask of what stays, float32 and bool, both (rows, columns).

    factor: upper triangular U with H⁻¹ = UᵀU, float32 (columns, columns). dead: bool (columns,), the inputs that are
    always 0, whose weights go first. Weights go by w² / U_jj², what a removal adds to the squared error once the later
    columns have made up for it. A block's mask is chosen when the errors of all blocks before it have reached it; for
    2:4, a four's mask when those of all columns before it have.
    """
    rows, columns = weight.shape
    if step.pattern == "2:4":
        refuse_uneven_fours(columns)
    if weight.is_cuda:
        return _sparsify_on_gpu(weight, factor, dead, step)
    # Transposed, so that a column of the weight is contiguous.
    left = weight.float().T.contiguous()
    keep = torch.zeros(columns, rows, dtype=torch.bool, device=weight.device)
    width = 4 if step.pattern == "2:4" else BLOCK
    for start in range(0, columns, BLOCK):
        end = min(start + BLOCK, columns)
        upper = factor[start:end, start:end]
        block, mask = left[start:end], keep[start:end]
        errors = torch.zeros_like(block)
        for column in range(end - start):
            if column % width == 0:
                part = slice(column, column + width)
                saliency = _saliency(block[part], upper.diagonal()[part], dead[start:end][part])
                if step.pattern == "2:4":
                    mask[part] = two_of_four(saliency).T
                else:
                    mask[part] = highest(saliency, _kept_of_block(step, columns, start, end)).T
            errors[column] = torch.where(mask[column], 0.0, block[column]) / upper[column, column]
            block[column + 1 :].addr_(upper[column, column + 1 :], errors[column], alpha=-1)
        left[end:].addmm_(factor[start:end, end:].T, errors, alpha=-1)
    return (left * keep).T, keep.T


def _sparsify_on_gpu(
    weight: torch.Tensor, factor: torch.Tensor, dead: torch.Tensor, step: SparseGPT
) -> tuple[torch.Tensor, torch.Tensor]:
    from workers.compression.kernels.sparsegpt_kernels import prune_block_on_gpu

    rows, columns = weight.shape
    left = weight.to(torch.float32, copy=True).contiguous()
    factor = factor.contiguous()
    keep = torch.zeros(rows, columns, dtype=torch.bool, device=weight.device)
    errors = torch.empty(rows, BLOCK, dtype=torch.float32, device=weight.device)
    for start in range(0, columns, BLOCK):
        end = min(start + BLOCK, columns)
        if step.pattern != "2:4":
            saliency = _saliency(left[:, start:end].T, factor.diagonal()[start:end], dead[start:end])
            keep[:, start:end] = highest(saliency, _kept_of_block(step, columns, start, end))
        prune_block_on_gpu(left, factor, dead, keep, errors, start, end, step.pattern == "2:4")
        left[:, end:].addmm_(errors[:, : end - start], factor[start:end, end:], alpha=-1)
    return left * keep, keep


def _kept_of_block(step: SparseGPT, columns: int, start: int, end: int) -> int:
    """How many of the columns [start, end) stay in each row, so that all blocks' add up."""
    removed = columns - step.kept(columns)
    return end - start - (removed * end // columns - removed * start // columns)


def _saliency(part: torch.Tensor, diagonal: torch.Tensor, dead: torch.Tensor) -> torch.Tensor:
    """What each weight's removal adds to the layer's squared error, (rows, columns); a dead input's is below all."""
    return torch.where(dead, -1.0, (part.T / diagonal).square())
