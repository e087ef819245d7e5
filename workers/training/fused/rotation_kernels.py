"""Rotary position embeddings with their gradients as a Triton kernel. Imported only where there is Triton."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

WARPS = 4


class Rotate(torch.autograd.Function):
    """x · cos + (−x₂, x₁) · sin, x₁ and x₂ the halves of the last dimension, worked out in float32, in x's type.

    RoPE, https://arxiv.org/abs/2104.09864, in the layout of transformers. x: (batch, heads, tokens, width), the last
    dimension contiguous. cos, sin: (batch or 1, tokens, width). What comes back lies in memory as (batch, tokens,
    heads, width).
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin, back=False)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _rotated(gradients[0], cos, sin, back=True), None, None


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, back: bool) -> torch.Tensor:
    if x.stride(-1) != 1:
        x = x.contiguous()
    batch, heads, tokens, width = x.shape
    out = torch.empty(batch, tokens, heads, width, dtype=x.dtype, device=x.device)
    if out.numel():
        _rotate[(batch * tokens,)](
            x,
            cos.contiguous(),
            sin.contiguous(),
            out,
            tokens,
            heads,
            *x.stride()[:3],
            tokens if cos.shape[0] > 1 else 0,
            HALF=width // 2,
            BACK=back,
            HEADS=triton.next_power_of_2(heads),
            COLUMNS=triton.next_power_of_2(width // 2),
            num_warps=WARPS,
        )
    return out.transpose(1, 2)


@triton.jit
def _rotate(
    x,
    cos,
    sin,
    out,
    tokens,
    heads,
    of_batch,
    of_head,
    of_token,
    angles,
    HALF: tl.constexpr,
    BACK: tl.constexpr,
    HEADS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    place = tl.program_id(0).to(tl.int64)
    row, token = place // tokens, place % tokens
    head = tl.arange(0, HEADS)
    column = tl.arange(0, COLUMNS)
    live = (head < heads)[:, None] & (column < HALF)[None, :]
    start = x + row * of_batch + token * of_token
    at = head.to(tl.int64)[:, None] * of_head + column[None, :]
    first = tl.load(start + at, mask=live, other=0.0).to(tl.float32)
    second = tl.load(start + at + HALF, mask=live, other=0.0).to(tl.float32)
    angle = (row * angles + token) * 2 * HALF + column
    inside = column < HALF
    first_cos = tl.load(cos + angle, mask=inside, other=0.0).to(tl.float32)[None, :]
    second_cos = tl.load(cos + angle + HALF, mask=inside, other=0.0).to(tl.float32)[None, :]
    first_sin = tl.load(sin + angle, mask=inside, other=0.0).to(tl.float32)[None, :]
    second_sin = tl.load(sin + angle + HALF, mask=inside, other=0.0).to(tl.float32)[None, :]
    if BACK:
        one = first * first_cos + second * second_sin
        other = second * second_cos - first * first_sin
    else:
        one = first * first_cos - second * first_sin
        other = second * second_cos + first * second_sin
    to = out + place * heads * 2 * HALF + head[:, None] * 2 * HALF + column[None, :]
    tl.store(to, one.to(out.dtype.element_ty), mask=live)
    tl.store(to + HALF, other.to(out.dtype.element_ty), mask=live)
