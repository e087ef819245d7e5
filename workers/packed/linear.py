"""Linear layers and embeddings whose weights stay packed: low-bit kernels on a GPU, plain torch elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from workers.packed.weight import PackedWeight

DECODED_WEIGHTS = 64 * 2**20


class Packed(nn.Module):
    """What holds a packed weight: its tensors are buffers, so that they are counted and moved with the module."""

    capturable = True

    def __init__(self, weight: PackedWeight) -> None:
        super().__init__()
        self.bits, self.columns = weight.bits, weight.columns
        self.register_buffer("packed", weight.packed)
        self.register_buffer("scale", weight.scale)
        self.register_buffer("zero_point", weight.zero_point)

    @property
    def stored(self) -> PackedWeight:
        """The weight as it lies on the module's device."""
        return PackedWeight(self.packed, self.scale, self.zero_point, self.bits, self.columns)


class PackedLinear(Packed):
    """`nn.Linear` with a packed weight. forward: inputs (…, columns) -> (…, rows), in the inputs' type.

    Weights are rounded to the inputs' type before the product, as the dense engine's are.
    """

    def __init__(self, weight: PackedWeight, bias: torch.Tensor | None = None) -> None:
        super().__init__(weight)
        self.in_features, self.out_features = weight.columns, weight.rows
        self.register_buffer("bias", bias)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        flat = inputs.reshape(-1, self.columns)
        return self.multiplied(flat).reshape(*inputs.shape[:-1], self.out_features)

    def multiplied(self, inputs: torch.Tensor) -> torch.Tensor:
        """inputs: (rows of the input, columns)."""
        if not inputs.is_cuda:
            return nn.functional.linear(inputs, self.stored.dense().to(inputs.dtype), self.bias)
        from workers.packed.kernels import product
        from workers.packed.tiles import multiplies_packed, tiles_for

        weight = self.stored
        # Triton's kernels run on the current GPU, wherever their tensors lie.
        with torch.cuda.device(inputs.device):
            if multiplies_packed(inputs.shape[0], weight):
                return product(inputs, weight, self.bias, tiles_for(inputs.shape[0], weight))
            return decoded_product(inputs, weight, self.bias)


def decoded_product(inputs: torch.Tensor, weight: PackedWeight, bias: torch.Tensor | None) -> torch.Tensor:
    """The product through dense rows in the inputs' type, at most 64 Mi weights of them at a time."""
    from workers.packed.kernels import decode

    step = max(1, DECODED_WEIGHTS // weight.columns)
    if step >= weight.rows:
        return nn.functional.linear(inputs, decode(weight, inputs.dtype), bias)
    out = torch.empty(inputs.shape[0], weight.rows, dtype=inputs.dtype, device=inputs.device)
    for first in range(0, weight.rows, step):
        count = min(step, weight.rows - first)
        rows = decode(weight, inputs.dtype, first=first, count=count)
        out[:, first : first + count] = nn.functional.linear(
            inputs, rows, None if bias is None else bias[first : first + count]
        )
    return out


class PackedEmbedding(Packed):
    """`nn.Embedding` with a packed weight, times `factor` where the model scales its embeddings (Gemma 3).

    forward: ids of any shape -> (…, columns), in the model's type.
    """

    def __init__(self, weight: PackedWeight, dtype: torch.dtype, factor: float | None = None) -> None:
        super().__init__(weight)
        self.dtype, self.factor = dtype, factor
        self.num_embeddings, self.embedding_dim = weight.rows, weight.columns

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        if ids.is_cuda:
            from workers.packed.kernels import decode

            with torch.cuda.device(ids.device):
                rows = decode(self.stored, self.dtype, rows=ids)
        else:
            rows = self.stored.chosen(ids).to(self.dtype)
        # The factor is rounded to the model's type first, as transformers does.
        return rows if self.factor is None else rows * torch.tensor(self.factor, dtype=self.dtype).item()


def side_by_side(modules: Sequence[nn.Module]) -> PackedLinear | None:
    """One layer whose outputs are these layers' joined along the last dimension; None where their weights are packed
    unlike, or not at all.

    The layers' own tensors become views of the joined ones, so that the model keeps its size and still works.
    """
    layers = [module for module in modules if isinstance(module, PackedLinear)]
    if len(layers) != len(modules) or len({_form(layer) for layer in layers}) != 1:
        return None
    has_zero_points = layers[0].zero_point is not None
    if has_zero_points and any(layer.out_features * layer.bits % 32 for layer in layers[:-1]):
        return None
    packed, scale = (torch.cat([getattr(layer, name) for layer in layers]) for name in ("packed", "scale"))
    zero_point = torch.cat([layer.zero_point for layer in layers]) if has_zero_points else None
    bias = torch.cat([layer.bias for layer in layers]) if layers[0].bias is not None else None
    joined = PackedLinear(PackedWeight(packed, scale, zero_point, layers[0].bits, layers[0].columns), bias)
    for name in ("packed", "scale", "zero_point", "bias"):
        if (whole := getattr(joined, name)) is None:
            continue
        start = 0
        for layer in layers:
            rows = getattr(layer, name).shape[0]
            setattr(layer, name, whole[start : start + rows])
            start += rows
    return joined


def _form(layer: PackedLinear) -> tuple[object, ...]:
    return (
        layer.bits,
        layer.columns,
        layer.scale.shape[1],
        layer.packed.dtype,
        layer.zero_point is None,
        layer.bias is None,
    )
