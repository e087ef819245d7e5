"""The gated unit of an MLP with its gradients as Triton kernels: one pass each. Imported only where there is Triton."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

BLOCK = 2048
WARPS = 4


class SiluGate(torch.autograd.Function):
    """silu(gate) · up, worked out in float32, in the inputs' type (SwiGLU without its products,
    https://arxiv.org/abs/2002.05202). gate, up: the same shape and type."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        ctx.save_for_backward(gate, up)
        out = torch.empty_like(gate)
        if count := gate.numel():
            _forward[(triton.cdiv(count, BLOCK),)](gate, up, out, count, BLOCK=BLOCK, num_warps=WARPS)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        (grad,) = gradients
        gate, up = ctx.saved_tensors
        of_gate, of_up = torch.empty_like(gate), torch.empty_like(up)
        if count := gate.numel():
            grid = (triton.cdiv(count, BLOCK),)
            _backward[grid](grad.contiguous(), gate, up, of_gate, of_up, count, BLOCK=BLOCK, num_warps=WARPS)
        return of_gate, of_up


@triton.jit
def _forward(gate, up, out, count, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = place < count
    values = tl.load(gate + place, mask=live, other=0.0).to(tl.float32)
    others = tl.load(up + place, mask=live, other=0.0).to(tl.float32)
    tl.store(out + place, (values * tl.sigmoid(values) * others).to(out.dtype.element_ty), mask=live)


@triton.jit
def _backward(grad, gate, up, of_gate, of_up, count, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = place < count
    wanted = tl.load(grad + place, mask=live, other=0.0).to(tl.float32)
    values = tl.load(gate + place, mask=live, other=0.0).to(tl.float32)
    others = tl.load(up + place, mask=live, other=0.0).to(tl.float32)
    share = tl.sigmoid(values)
    slope = share * (1.0 + values * (1.0 - share))
    tl.store(of_gate + place, (wanted * others * slope).to(of_gate.dtype.element_ty), mask=live)
    tl.store(of_up + place, (wanted * values * share).to(of_up.dtype.element_ty), mask=live)
