"""Putting each token's inputs on its own 8-bit grid in one Triton kernel; imported only where there is a GPU."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

# Added and taken away again, it rounds a float32 below 2^22 to the nearest integer, halves to the even one.
TO_INTEGER = tl.constexpr(12582912.0)


def tokens_on_grid(inputs: torch.Tensor, dtype: torch.dtype, span: float) -> tuple[torch.Tensor, torch.Tensor]:
    """What `EightBitLinear.on_grid` does."""
    tokens, columns = inputs.shape
    inputs = inputs.contiguous()
    values = torch.empty(tokens, columns, dtype=dtype, device=inputs.device)
    scales = torch.empty(tokens, 1, dtype=torch.float32, device=inputs.device)
    _to_grid[(tokens,)](
        inputs,
        values,
        scales,
        columns,
        span,
        INTEGERS=dtype == torch.int8,
        BLOCK=triton.next_power_of_2(columns),
        num_warps=8,
    )
    return values, scales


@triton.jit
def _to_grid(inputs, values, scales, columns, span, INTEGERS: tl.constexpr, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    live = column < columns
    wide = tl.load(inputs + token * columns + column, mask=live, other=0.0).to(tl.float32)
    scale = tl.div_rn(tl.max(tl.abs(wide), axis=0), span)
    scale = tl.where(scale == 0.0, 1.0, scale)
    scaled = tl.div_rn(wide, tl.zeros((BLOCK,), dtype=tl.float32) + scale)
    if INTEGERS:
        scaled = tl.minimum(tl.maximum((scaled + TO_INTEGER) - TO_INTEGER, -128.0), 127.0)
    else:
        scaled = tl.minimum(tl.maximum(scaled, -span), span)
    tl.store(scales + token, scale)
    tl.store(values + token * columns + column, scaled.to(values.dtype.element_ty), mask=live)
