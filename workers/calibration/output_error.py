"""How far a quantized weight's outputs are from the weight's own: squared errors by the calibration Hessian."""

from __future__ import annotations

import torch

from workers.runtime.tensor_cores import tensor_cores


def row_errors(error: torch.Tensor, hessian: torch.Tensor) -> torch.Tensor:
    """Mean over tokens of the squared error of each output: the diagonal of E H Eᵀ, float32 (rows,).

    error: weight - stored weight, float32 (rows, columns). hessian: mean x xᵀ, float32 (columns, columns).
    """
    # The errors of 4,096 columns and more add up: what TF32 rounds off is lost in their number.
    with tensor_cores():
        return ((error @ hessian) * error).sum(dim=-1)


def group_errors(error: torch.Tensor, blocks: torch.Tensor) -> torch.Tensor:
    """The same for each group by itself, as though the others were exact: float32 (rows, groups).

    blocks: the Hessian's diagonal blocks, float32 (groups, columns a group, columns a group).
    """
    grouped = error.reshape(error.shape[0], blocks.shape[0], -1).transpose(0, 1)
    return (torch.bmm(grouped, blocks) * grouped).sum(dim=-1).T


def diagonal_blocks(hessian: torch.Tensor, groups: int) -> torch.Tensor:
    """The Hessian's blocks on its diagonal, (groups, columns a group, columns a group)."""
    size = hessian.shape[0] // groups
    return hessian.reshape(groups, size, groups, size).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
