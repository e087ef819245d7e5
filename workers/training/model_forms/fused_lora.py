"""LoRA beside a linear layer without peft's spare passes over the output: its product is added in place.

peft 0.21 makes the scaled product and the sum as tensors of their own: three passes over every output, forward and
back. A compiler makes the sum part of what reads it, so while one is at work the sum is left to it.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch.nn import functional


class AddLowRank(torch.autograd.Function):
    """y + scaling · u Bᵀ, in y's own memory unless it is a view.

    y: (…, out), of a product that does not need it for its backward. u: (…, rank), in y's type. weight: B, (out, rank),
    in any type.
    """

    @staticmethod
    def forward(ctx: Any, y: torch.Tensor, u: torch.Tensor, weight: torch.Tensor, scaling: float) -> torch.Tensor:
        b = weight.to(y.dtype)
        ctx.save_for_backward(u, b)
        ctx.scaling, ctx.weight_type = scaling, weight.dtype
        if y._base is not None:
            return torch.addmm(y.flatten(0, -2), u.flatten(0, -2), b.t(), alpha=scaling).view_as(y)
        ctx.mark_dirty(y)
        y.flatten(0, -2).addmm_(u.flatten(0, -2), b.t(), alpha=scaling)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        (gradient,) = gradients
        u, b = ctx.saved_tensors
        flat = gradient.flatten(0, -2)
        of_u = (flat @ b).mul_(ctx.scaling).unflatten(0, gradient.shape[:-1])
        of_b = (flat.t() @ u.flatten(0, -2)).to(ctx.weight_type).mul_(ctx.scaling)
        return gradient, of_u, of_b, None


class FusedLoraLinear(LoraLinear):
    """peft's LoRA layer, whose training pass is `AddLowRank`; anything but one plain adapter is left to peft."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        name = self._only_adapter()
        if name is None or args or kwargs:
            answer: torch.Tensor = super().forward(x, *args, **kwargs)
            return answer
        y: torch.Tensor = self.base_layer(x)
        if torch.compiler.is_compiling():
            # The factor goes to the smallest of the three matrices, and is rounded with it.
            down = (self.lora_A[name].weight * self.scaling[name]).to(y.dtype)
            u = functional.linear(self.lora_dropout[name](x).to(y.dtype), down)
            return y + functional.linear(u, self.lora_B[name].weight.to(y.dtype))
        down = self.lora_A[name].weight.to(y.dtype)
        u = functional.linear(self.lora_dropout[name](x).to(y.dtype), down)
        added: torch.Tensor = AddLowRank.apply(y, u, self.lora_B[name].weight, self.scaling[name])
        return added

    def _only_adapter(self) -> str | None:
        """The active adapter where it is the only one, plain, unmerged and without a bias."""
        names = [name for name in self.active_adapters if name in self.lora_A]
        if self.disable_adapters or self.merged or len(names) != 1 or names[0] in self.lora_variant:
            return None
        return None if self.lora_B[names[0]].bias is not None else names[0]
