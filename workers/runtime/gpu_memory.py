"""A GPU's memory: how torch takes it, and a trial's share of it, limited before it loads and given back at its end."""

from __future__ import annotations

import gc
import math
import os
import sys
from typing import Any

# A process that holds more when a trial has ended is replaced.
MOST_LEFT_BEHIND = 512 * 2**20
# Blocks that grow (https://docs.pytorch.org/docs/stable/notes/cuda.html#optimizing-memory-usage-with-pytorch-alloc-conf).
# Batches of ever other shapes otherwise leave holes, until torch waits for the GPU and hands memory back: LoRA steps at
# a 7B shape on an H100 ran at 14,000 tokens/s with that, and at 15,700 without.
ALLOCATOR_SETTINGS = "expandable_segments:True"
ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


def set_allocator() -> None:
    """Have this process and those that it starts take a GPU's memory in blocks that grow; torch looks when it takes
    the first. The user's own settings stay."""
    if not any(variable in os.environ for variable in ALLOCATOR_VARIABLES):
        os.environ[ALLOCATOR_VARIABLES[0]] = ALLOCATOR_SETTINGS


def limit_memory(fraction: float | None) -> None:
    """Let this process take at most that share of a GPU's memory; None is no limit."""
    import torch

    if fraction is not None and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(min(fraction, 1.0))


def usable_memory(device: Any = 0) -> float:
    """Bytes of a GPU's memory that this process may take; infinity without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return math.inf
    share: float = torch.cuda.get_per_process_memory_fraction(device)
    return share * int(torch.cuda.get_device_properties(device).total_memory)


def free_memory(device: Any) -> int:
    """Bytes of a GPU's memory that tensors of this process may still take."""
    import torch

    held = int(torch.cuda.memory_allocated(device))
    free, _ = torch.cuda.mem_get_info(device)
    return int(min(free + torch.cuda.memory_reserved(device), usable_memory(device))) - held


def release_memory() -> None:
    """Hand back what nothing refers to any more."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def leave_to_stay() -> None:
    """Take what lives now out of the garbage collector's sight, once it has collected; for a process that works on.

    The libraries' modules are a million objects, which every `release_memory` would look through: 0.3 s each time on a
    CPU of 2.6 GHz. What nothing refers to any more still goes, but for circles.
    """
    gc.collect()
    gc.freeze()


def bytes_left_behind() -> int:
    """Bytes that this process's tensors still take of its GPUs where nothing is under way; 0 without a GPU.

    cuBLAS' workspaces go first: torch keeps one for each stream that multiplied, 32 MiB on an H100, and a captured
    graph must not be replayed after that
    (https://docs.pytorch.org/docs/stable/notes/cuda.html#cublas-workspaces).
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return 0
    torch._C._cuda_clearCublasWorkspaces()
    release_memory()
    return sum(int(torch.cuda.memory_allocated(gpu)) for gpu in range(torch.cuda.device_count()))
