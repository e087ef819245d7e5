"""What a layer in quantization-aware training does at every step, as Triton kernels: one launch for its dense weight,
one for its gradients. A program takes whole groups, whatever rows they lie in. Imported only where there is Triton."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from workers.stored_forms.integer_grid import SMALLEST_SCALE, bounds

# Weights a program takes at a time; a group that is larger, such as a whole row, is one program's all the same.
TILE = 2048
WEIGHTS_PER_WARP = 512
MOST_WARPS = 16
SMALLEST = tl.constexpr(SMALLEST_SCALE)
# Added and taken away again, it rounds a float32 below 2^22 to the nearest integer, halves to the even one.
TO_INTEGER = tl.constexpr(12582912.0)


def rounded(
    latent: torch.Tensor,
    scale: torch.Tensor,
    scale_factor: torch.Tensor,
    zero_point: torch.Tensor | None,
    mask: torch.Tensor | None,
    bits: int,
    dtype: torch.dtype,
) -> torch.Tensor:
    """The dense weight that would be stored now, (rows, columns), in this type: bit for bit
    `FakeQuantizedLinear.quantized().dequantized().to(dtype)`.

    latent, mask: (rows, columns). scale, scale_factor, zero_point: (rows, groups).
    """
    out = torch.empty(latent.shape, dtype=dtype, device=latent.device)
    size = latent.shape[1] // scale.shape[1]
    least, most = bounds(bits)
    block, together, warps = _tile(size)
    _round[(triton.cdiv(scale.numel(), together),)](
        latent.contiguous(),
        scale.contiguous(),
        scale_factor.contiguous(),
        latent if zero_point is None else zero_point.contiguous(),
        latent if mask is None else mask.contiguous(),
        out,
        scale.numel(),
        float(least),
        float(most),
        SIZE=size,
        HAS_ZERO=zero_point is not None,
        HAS_MASK=mask is not None,
        BLOCK=block,
        GROUPS=together,
        num_warps=warps,
    )
    return out


def grid_gradients(
    grad: torch.Tensor,
    latent: torch.Tensor,
    scale: torch.Tensor,
    scale_factor: torch.Tensor,
    zero_point: torch.Tensor | None,
    mask: torch.Tensor | None,
    bits: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of latent, float32 (rows, columns), and of scale_factor, float32 (rows, groups), as
    `FakeQuantizedLinear.gradients` defines them.

    grad: that of the dense weight, (rows, columns), of any floating type; the others as `rounded` takes them.
    """
    of_latent = torch.empty(latent.shape, dtype=torch.float32, device=latent.device)
    of_factor = torch.empty(scale.shape, dtype=torch.float32, device=latent.device)
    size = latent.shape[1] // scale.shape[1]
    least, most = bounds(bits)
    block, together, warps = _tile(size)
    _gradients[(triton.cdiv(scale.numel(), together),)](
        grad.contiguous(),
        latent.contiguous(),
        scale.contiguous(),
        scale_factor.contiguous(),
        latent if zero_point is None else zero_point.contiguous(),
        latent if mask is None else mask.contiguous(),
        of_latent,
        of_factor,
        scale.numel(),
        float(least),
        float(most),
        SIZE=size,
        HAS_ZERO=zero_point is not None,
        HAS_MASK=mask is not None,
        BLOCK=block,
        GROUPS=together,
        num_warps=warps,
    )
    return of_latent, of_factor


def _tile(size: int) -> tuple[int, int, int]:
    """For groups of so many weights: the power of two that holds one, how many a program takes, and its warps."""
    block = triton.next_power_of_2(size)
    together = max(1, TILE // block)
    return block, together, min(block * together // WEIGHTS_PER_WARP, MOST_WARPS)


@triton.jit
def _round(
    latent,
    scale,
    factor,
    zero,
    mask,
    out,
    groups,
    least,
    most,
    SIZE: tl.constexpr,
    HAS_ZERO: tl.constexpr,
    HAS_MASK: tl.constexpr,
    BLOCK: tl.constexpr,
    GROUPS: tl.constexpr,
):
    group = tl.program_id(0).to(tl.int64) * GROUPS + tl.arange(0, GROUPS)
    column = tl.arange(0, BLOCK)
    live = group < groups
    place = group[:, None] * SIZE + column[None, :]
    inside = live[:, None] & (column < SIZE)[None, :]
    weights = tl.load(latent + place, mask=inside, other=0.0).to(tl.float32)
    step = _stored(scale, factor, group, live)
    origin = _origin(zero, group, live, HAS_ZERO, GROUPS)
    _, code, _ = _on_grid(weights, step, origin, least, most)
    values = (code - origin[:, None]) * step[:, None]
    if HAS_MASK:
        values *= tl.load(mask + place, mask=inside, other=0).to(tl.float32)
    tl.store(out + place, values.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _gradients(
    grad,
    latent,
    scale,
    factor,
    zero,
    mask,
    of_latent,
    of_factor,
    groups,
    least,
    most,
    SIZE: tl.constexpr,
    HAS_ZERO: tl.constexpr,
    HAS_MASK: tl.constexpr,
    BLOCK: tl.constexpr,
    GROUPS: tl.constexpr,
):
    group = tl.program_id(0).to(tl.int64) * GROUPS + tl.arange(0, GROUPS)
    column = tl.arange(0, BLOCK)
    live = group < groups
    place = group[:, None] * SIZE + column[None, :]
    inside = live[:, None] & (column < SIZE)[None, :]
    weights = tl.load(latent + place, mask=inside, other=0.0).to(tl.float32)
    step = _stored(scale, factor, group, live)
    origin = _origin(zero, group, live, HAS_ZERO, GROUPS)
    scaled, code, within = _on_grid(weights, step, origin, least, most)
    slope = code - tl.where(within, scaled, origin[:, None])
    # Past the end the gradient is 0, so nothing there is added up.
    wanted = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
    if HAS_MASK:
        wanted *= tl.load(mask + place, mask=inside, other=0).to(tl.float32)
    parent = tl.load(scale + group, mask=live, other=0.0).to(tl.float32)
    # By a product and not a choice: a gradient that is not finite stays so, and the step is not applied.
    tl.store(of_latent + place, wanted * within.to(tl.float32), mask=inside)
    tl.store(of_factor + group, tl.sum(wanted * slope, axis=1) * parent, mask=live)


@triton.jit
def _stored(scale, factor, group, live):
    """The scales as they would be stored now: bfloat16, held as float32."""
    step = tl.load(scale + group, mask=live, other=1.0).to(tl.float32)
    step *= tl.load(factor + group, mask=live, other=1.0).to(tl.float32)
    step = tl.where(step < SMALLEST, SMALLEST, step)
    # To the nearest bfloat16, halves to the even one: Triton's interpreter rounds by cutting off.
    word = step.to(tl.int32, bitcast=True)
    word += 0x7FFF + ((word >> 16) & 1)
    return (word & -65536).to(tl.float32, bitcast=True)


@triton.jit
def _origin(zero, group, live, HAS_ZERO: tl.constexpr, GROUPS: tl.constexpr):
    if HAS_ZERO:
        origin = tl.load(zero + group, mask=live, other=0).to(tl.float32)
    else:
        origin = tl.zeros((GROUPS,), dtype=tl.float32)
    return origin


@triton.jit
def _on_grid(weights, step, origin, least, most):
    """weights / step + origin, the nearest integer within the bounds, and whether it is the nearest of all."""
    scaled = tl.div_rn(weights, tl.zeros_like(weights) + step[:, None]) + origin[:, None]
    # Clamped to one integer beyond the bounds, so that the rounding trick stays in its range.
    near = tl.minimum(tl.maximum(scaled, least - 1.0), most + 1.0)
    near = (near + TO_INTEGER) - TO_INTEGER
    code = tl.minimum(tl.maximum(near, least), most)
    return scaled, code, near == code
