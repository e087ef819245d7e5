"""Which kernels a loaded model's linear layers run on, and which folders have them on a GPU alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from workers.packed.eight_bit import EightBitLinear
from workers.packed.linear import Packed
from workers.packed.weight import FLOAT


def kernel_names(model: Any) -> tuple[str, ...]:
    """What computes the products of the model's linear layers, each once, in order of the alphabet."""
    return tuple(sorted({name for module in model.modules() if (name := _name(module))}))


def needs_gpu(config: Mapping[str, Any]) -> bool:
    """Whether a folder with this config.json has packed weights that only a GPU's kernels run as they are stored."""
    return bool(config.get("quantization_config", {}).get("quant_method") == "compressed-tensors")


def _name(module: nn.Module) -> str:
    if isinstance(module, EightBitLinear):
        return module.kernel
    if isinstance(module, Packed):
        return (
            "triton fp8 weights, bf16 inputs"
            if module.bits == FLOAT
            else f"triton int{module.bits} weights, bf16 inputs"
        )
    if type(module).__module__.startswith("bitsandbytes"):
        return f"bitsandbytes {type(module).__name__}"
    return "torch" if isinstance(module, nn.Linear) else ""
