"""A trial's share of a GPU's memory: limited before it loads, given back when it is done."""

from __future__ import annotations

import gc
import sys

LEFT_BEHIND_BYTES = 512 * 2**20


def limit_memory(fraction: float | None) -> None:
    """Let this process take at most that share of a GPU's memory; None is no limit."""
    import torch

    if fraction is not None and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(min(fraction, 1.0))


def release_memory() -> bool:
    """Free what the last trial held; False when a GPU still holds more than a CUDA context's worth of tensors."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return True
    torch.cuda.empty_cache()
    return bool(torch.cuda.memory_allocated() < LEFT_BEHIND_BYTES)
