"""RMS norms with their gradients as Triton kernels: one pass forward, one back. Imported only where there is Triton."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

# Programs of the backward pass; each adds up the weight's gradient over its rows.
PROGRAMS = 512
COLUMNS_PER_WARP = 256
MOST_WARPS = 16


class RmsNorm(torch.autograd.Function):
    """x / √(mean x² + eps) · (weight + offset), worked out in float32, in the type asked for.

    RMSNorm, https://arxiv.org/abs/1910.07467. x: (…, width), of any floating type. weight: (width,). offset: 0, or 1
    for families that store weights so (Gemma).
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float, offset: float, dtype: torch.dtype
    ) -> torch.Tensor:
        x = x.contiguous()
        width = x.shape[-1]
        rows = x.numel() // width
        out = torch.empty(x.shape, dtype=dtype, device=x.device)
        scale = torch.empty(rows, dtype=torch.float32, device=x.device)
        block, warps = _tile(width)
        if rows:
            _forward[(rows,)](x, weight, out, scale, width, eps, offset, BLOCK=block, num_warps=warps)
        ctx.save_for_backward(x, weight, scale)
        ctx.offset = offset
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = gradients
        x, weight, scale = ctx.saved_tensors
        width, rows = x.shape[-1], scale.numel()
        block, warps = _tile(width)
        wanted = ctx.needs_input_grad[1]
        programs = max(1, min(PROGRAMS, rows))
        of_x = torch.empty_like(x)
        parts = torch.zeros(programs if wanted else 1, width, dtype=torch.float32, device=x.device)
        if rows:
            _backward[(programs,)](
                grad.contiguous(),
                x,
                weight,
                scale,
                of_x,
                parts,
                rows,
                width,
                ctx.offset,
                OF_WEIGHT=wanted,
                BLOCK=block,
                num_warps=warps,
            )
        return of_x, parts.sum(0).to(weight.dtype) if wanted else None, None, None, None


def _tile(width: int) -> tuple[int, int]:
    block = triton.next_power_of_2(width)
    return block, max(1, min(block // COLUMNS_PER_WARP, MOST_WARPS))


@triton.jit
def _forward(x, weight, out, scale, width, eps, offset, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    live = column < width
    values = tl.load(x + row * width + column, mask=live, other=0.0).to(tl.float32)
    root = 1.0 / tl.sqrt(tl.sum(values * values, axis=0) / width + eps)
    gain = tl.load(weight + column, mask=live, other=0.0).to(tl.float32) + offset
    tl.store(scale + row, root)
    tl.store(out + row * width + column, (values * root * gain).to(out.dtype.element_ty), mask=live)


@triton.jit
def _backward(grad, x, weight, scale, of_x, parts, rows, width, offset, OF_WEIGHT: tl.constexpr, BLOCK: tl.constexpr):
    program = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    live = column < width
    gain = tl.load(weight + column, mask=live, other=0.0).to(tl.float32) + offset
    part = tl.zeros((BLOCK,), dtype=tl.float32)
    place = program.to(tl.int64) * width + column
    for number in range(program, rows, tl.num_programs(0)):
        root = tl.load(scale + number)
        normed = tl.load(x + place, mask=live, other=0.0).to(tl.float32) * root
        wanted = tl.load(grad + place, mask=live, other=0.0).to(tl.float32)
        if OF_WEIGHT:
            part += wanted * normed
        wanted *= gain
        mean = tl.sum(wanted * normed, axis=0) / width
        tl.store(of_x + place, (root * (wanted - normed * mean)).to(of_x.dtype.element_ty), mask=live)
        place += tl.num_programs(0).to(tl.int64) * width
    if OF_WEIGHT:
        tl.store(parts + program * width + column, part, mask=live)
