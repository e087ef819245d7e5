"""Linear layers of 8-bit weights and 8-bit inputs: FP8 and int8 products of torch, a scale a token and an output."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

E4M3 = torch.float8_e4m3fn
# The largest magnitude a token's scale maps its largest input to: E4M3's own, and half of int8's width.
SPANS: dict[torch.dtype, float] = {E4M3: 448.0, torch.int8: 127.5}
# torch._int_mm takes more rows than these.
FEWEST_INT8_ROWS = 17


class EightBitLinear(nn.Module):
    """weight: E4M3 or int8 (rows, columns); scale: (rows, 1). Inputs are put on the same type's grid, a scale a token.

    On a GPU the product is taken in 8 bits; elsewhere in the inputs' type, of the same values.
    """

    capturable = True

    def __init__(self, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.kernel = "torch._scaled_mm (fp8)" if weight.dtype == E4M3 else "torch._int_mm (int8)"
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        flat = inputs.reshape(-1, self.in_features)
        values, scales = self.on_grid(flat)
        if not inputs.is_cuda:
            shown = (values.float() * scales).to(inputs.dtype)
            dense = (self.weight.float() * self.scale.float()).to(inputs.dtype)
            product = nn.functional.linear(shown, dense, self.bias)
        elif self.weight.dtype == E4M3:
            product = _fp8_product(values, scales, self)
        else:
            product = _int8_product(values, scales, self, inputs.dtype)
        return product.reshape(*inputs.shape[:-1], self.out_features)

    def on_grid(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Each token's 8-bit values, (tokens, columns), and its scale, float32 (tokens, 1); a token of zeros gets 1."""
        span = SPANS[self.weight.dtype]
        if inputs.is_cuda:
            from workers.packed.token_kernel import tokens_on_grid

            # Triton's kernels run on the current GPU, wherever their tensors lie.
            with torch.cuda.device(inputs.device):
                return tokens_on_grid(inputs, self.weight.dtype, span)
        wide = inputs.float()
        scales = wide.abs().amax(dim=-1, keepdim=True) / span
        scales = torch.where(scales == 0, torch.ones_like(scales), scales)
        scaled = wide / scales
        if self.weight.dtype == E4M3:
            return scaled.clamp(-span, span).to(E4M3), scales
        return scaled.round().clamp(-128, 127).to(torch.int8), scales


def why_not(rows: int, columns: int, dtype: torch.dtype) -> str | None:
    """Why torch has no 8-bit product for a weight of this shape and type; None where it has."""
    step = 16 if dtype == E4M3 else 8
    if rows % step or columns % step:
        return (
            f"torch's 8-bit product needs rows and columns in multiples of {step}, and a weight is {rows} by {columns}"
        )
    return None


def _fp8_product(values: torch.Tensor, scales: torch.Tensor, layer: Any) -> torch.Tensor:
    return torch._scaled_mm(
        values,
        layer.weight.t(),
        scale_a=scales,
        scale_b=layer.scale.float().t(),
        bias=layer.bias,
        out_dtype=torch.bfloat16,
    )


def _int8_product(values: torch.Tensor, scales: torch.Tensor, layer: Any, dtype: torch.dtype) -> torch.Tensor:
    tokens = values.shape[0]
    if tokens < FEWEST_INT8_ROWS:
        values = nn.functional.pad(values, (0, 0, 0, FEWEST_INT8_ROWS - tokens))
    sums = torch._int_mm(values, layer.weight.t())[:tokens]
    product = sums * scales * layer.scale.t()
    return (product if layer.bias is None else product + layer.bias).to(dtype)
