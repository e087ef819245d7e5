"""Linear layers whose weights are stored in fewer bits and take part in training: frozen, by their scales, or whole.

None keeps a dense weight between its forward and its backward pass: each works it out from what it holds, twice. What a
quantized one multiplies by is what would be stored: it starts at exactly the parent's weight, and ends at exactly the
artefact's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from search_spaces.errors import CandidateError
from workers.packed.weight import PackedWeight
from workers.stored_forms.integer_grid import SCALE_DTYPE, SMALLEST_SCALE, Grid, QuantizedWeight, bounds, to_integers
from workers.stored_forms.packing import kept_values, mask_of, pack, scatter_values


class StoredLinear(nn.Linear):
    """`nn.Linear` without a dense weight: `weight` is worked out whenever it is read, float32 (rows, columns).

    A subclass has `dense`, its trained parameters in `trained`, and what becomes of them in `parts`.
    """

    def __init__(self, rows: int, columns: int) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = columns, rows
        self.register_buffer("bias", None)

    @property
    def weight(self) -> torch.Tensor:
        return self.dense()

    def trained(self) -> tuple[torch.Tensor, ...]:
        """The parameters that the dense weight is worked out from; () where it is frozen."""
        return ()

    def dense(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """The weight as it would be stored now, (rows, columns), rounded to this type once, without a gradient."""
        raise NotImplementedError

    def gradients(self, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The gradients of `trained`, float32, from that of the dense weight, (rows, columns) in the product's type."""
        raise NotImplementedError

    def parts(self) -> dict[str, torch.Tensor]:
        """What has changed of the stored form: part, such as `weight_scale` -> tensor."""
        return {}

    def train_bias(self) -> None:
        """Make the bias, where there is one, a float32 parameter."""
        if (bias := self._buffers.pop("bias")) is not None:
            self.register_parameter("bias", nn.Parameter(bias.float()))
        else:
            self.register_buffer("bias", None)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """inputs (…, columns) -> (…, rows), in the inputs' type or in that of autocast."""
        kind = inputs.device.type
        if torch.is_autocast_enabled(kind):
            inputs = inputs.to(torch.get_autocast_dtype(kind))
        out: torch.Tensor = _Product.apply(inputs, self, *self.trained())
        return out if self.bias is None else out + self.bias.to(out.dtype)


class _Product(torch.autograd.Function):
    """inputs · weightᵀ, the weight worked out anew for the backward pass."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, layer: StoredLinear, *trained: torch.Tensor) -> torch.Tensor:
        ctx.layer = layer
        ctx.save_for_backward(inputs, *trained)
        return functional.linear(inputs, layer.dense(inputs.dtype))

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs, *trained = ctx.saved_tensors
        layer: StoredLinear = ctx.layer
        back = grad @ layer.dense(grad.dtype) if ctx.needs_input_grad[0] else None
        if not any(ctx.needs_input_grad[2:]):
            return (back, None, *(None for _ in trained))
        rows, columns = grad.shape[-1], inputs.shape[-1]
        weight = grad.reshape(-1, rows).T @ inputs.reshape(-1, columns)
        return (back, None, *layer.gradients(weight))


class FrozenPackedLinear(StoredLinear):
    """Frozen integers, packed as they are stored: what an adapter is trained upon."""

    def __init__(self, weight: PackedWeight) -> None:
        super().__init__(weight.rows, weight.columns)
        self.bits = weight.bits
        self.register_buffer("packed", weight.packed)
        self.register_buffer("scale", weight.scale)
        self.register_buffer("zero_point", weight.zero_point)

    def dense(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return _decoded(PackedWeight(self.packed, self.scale, self.zero_point, self.bits, self.in_features), dtype)


class ScaledLinear(FrozenPackedLinear):
    """Frozen packed integers under trained scales (PEQA, https://arxiv.org/abs/2305.14152 §3.2).

    What is trained is `scale_factor`, float32 (rows, groups), by which the parent's scales are multiplied: one learning
    rate then suits weights of any size. Scales are rounded to bfloat16 before they are used; the gradient passes that
    by.
    """

    def __init__(self, weight: PackedWeight) -> None:
        super().__init__(weight)
        self.scale_factor = nn.Parameter(torch.ones_like(weight.scale, dtype=torch.float32))

    def trained(self) -> tuple[torch.Tensor, ...]:
        return (self.scale_factor,)

    def stored_scale(self) -> torch.Tensor:
        """The scales as they would be stored now, bfloat16 (rows, groups)."""
        return (self.scale.float() * self.scale_factor.detach()).to(self.scale.dtype)

    def dense(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        scale = self.stored_scale()
        return _decoded(PackedWeight(self.packed, scale, self.zero_point, self.bits, self.in_features), dtype)

    def gradients(self, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ones = torch.ones_like(self.scale)
        plain = PackedWeight(self.packed, ones, self.zero_point, self.bits, self.in_features)
        centred = _decoded(plain, torch.float32)
        rows, groups = self.scale.shape
        return ((grad * centred).reshape(rows, groups, -1).sum(dim=-1) * self.scale.float(),)

    def parts(self) -> dict[str, torch.Tensor]:
        return {"weight_scale": self.stored_scale()}


class FakeQuantizedLinear(StoredLinear):
    """Weights and scales trained on the parent's grid: quantization-aware training.

    latent: float32 (rows, columns), which the forward pass rounds to the grid; its gradient passes the rounding by, and
    is 0 where the integer is clipped. scale_factor: float32 (rows, groups), by which the parent's scales are
    multiplied, as in `ScaledLinear`; its gradient is LSQ's (https://arxiv.org/abs/1902.08153 eq. 3) times the parent's
    scale. LSQ's further factor 1 / √(n · q_max) is left out: AdamW's steps don't depend on a gradient's size. Zero
    points and the zeros of a sparse weight stay.
    """

    def __init__(self, weight: QuantizedWeight) -> None:
        super().__init__(*weight.integers.shape)
        self.bits = weight.bits
        self.latent = nn.Parameter(weight.dequantized())
        self.scale_factor = nn.Parameter(torch.ones_like(weight.grid.scale, dtype=torch.float32))
        self.register_buffer("scale", weight.grid.scale)
        zero = weight.grid.zero_point
        # Zero points are unpacked column by column, and the kernels would copy them at every step.
        self.register_buffer("zero_point", None if zero is None else zero.contiguous())
        self.register_buffer("mask", weight.mask)

    def trained(self) -> tuple[torch.Tensor, ...]:
        return (self.latent, self.scale_factor)

    def grid(self) -> Grid:
        """The grid as it would be stored now."""
        scale = self.scale.float() * self.scale_factor.detach()
        return Grid(scale.clamp(min=SMALLEST_SCALE).to(SCALE_DTYPE), self.zero_point)

    def quantized(self) -> QuantizedWeight:
        """The weight as it would be stored now."""
        grid = self.grid()
        return QuantizedWeight(to_integers(self.latent.detach(), grid, self.bits), grid, self.bits, self.mask)

    def dense(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        if not self.latent.is_cuda:
            return self.quantized().dequantized().to(dtype)
        from workers.training.model_forms.grid_kernels import rounded

        return rounded(
            self.latent,
            self.scale,
            scale_factor=self.scale_factor,
            zero_point=self.zero_point,
            mask=self.mask,
            bits=self.bits,
            dtype=dtype,
        )

    def gradients(self, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self.latent.is_cuda:
            from workers.training.model_forms.grid_kernels import grid_gradients

            held = (self.latent, self.scale, self.scale_factor, self.zero_point, self.mask)
            return grid_gradients(grad, *held, self.bits)
        grad = grad.float()
        if self.mask is not None:
            grad = grad * self.mask
        grid = self.grid()
        rows, groups = grid.scale.shape
        zero = 0.0 if grid.zero_point is None else grid.zero_point.float()[..., None]
        scaled = self.latent.detach().reshape(rows, groups, -1) / grid.scale.float()[..., None] + zero
        least, most = bounds(self.bits)
        rounded = scaled.round()
        within = (rounded >= least) & (rounded <= most)
        grouped = grad.reshape(rows, groups, -1)
        slope = torch.where(within, rounded - scaled, rounded.clamp(least, most) - zero)
        return ((grouped * within).reshape(grad.shape), (grouped * slope).sum(dim=-1) * self.scale.float())

    def parts(self) -> dict[str, torch.Tensor]:
        return {name.removeprefix("weight."): tensor for name, tensor in pack("weight", self.quantized())}


class SparseLinear(StoredLinear):
    """The weights that a sparse layer keeps, trained; its zeros stay. values: float32 (rows, columns).

    dtype: that the kept weights are stored in.
    """

    def __init__(self, weight: torch.Tensor, mask: torch.Tensor) -> None:
        super().__init__(*weight.shape)
        self.dtype = weight.dtype
        self.values = nn.Parameter(weight.float())
        self.register_buffer("mask", mask)

    def trained(self) -> tuple[torch.Tensor, ...]:
        return (self.values,)

    def dense(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return (self.values.detach() * self.mask).to(dtype)

    def gradients(self, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (grad.float() * self.mask,)

    def parts(self) -> dict[str, torch.Tensor]:
        return {"weight_values": kept_values(self.values.detach(), self.mask).to(self.dtype)}


def quantized_weight(stored: Mapping[str, torch.Tensor], bits: int | None) -> QuantizedWeight:
    """A weight's integers, grid and mask from its stored parts, named as on disk without the stem.

    Raises CandidateError for a weight that is not stored as packed integers.
    """
    from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32

    if "weight_packed" not in stored or bits is None:
        raise CandidateError(f"only packed integers are trained on their grid; a weight is stored as {sorted(stored)}")
    shape = torch.Size(stored["weight_shape"].tolist())
    mask = mask_of(stored["weight_mask"], shape) if "weight_mask" in stored else None
    packed = shape if mask is None else torch.Size([shape[0], int(mask[0].sum())])
    integers = unpack_from_int32(stored["weight_packed"], bits, packed)
    scale, zero = stored["weight_scale"], stored.get("weight_zero_point")
    if zero is not None:
        zero = unpack_from_int32(zero, bits, scale.shape, packed_dim=0)
    return QuantizedWeight(integers if mask is None else scatter_values(integers, mask), Grid(scale, zero), bits, mask)


def _decoded(weight: PackedWeight, dtype: torch.dtype) -> torch.Tensor:
    """The dense weight (rows, columns): by our kernel on a GPU, by plain torch elsewhere."""
    if not weight.packed.is_cuda:
        return weight.dense().to(dtype)
    from workers.packed.kernels import decode

    return decode(weight, dtype)
