"""The host's memory: how much of it a process may still take, and how tensors of a GPU come into it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch

CGROUP = Path("/sys/fs/cgroup")


def to_host(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in host memory; itself where it is there already.

    From a GPU it comes into pinned memory, which torch uses again: into new pages of other memory a copy is ten times
    slower.
    """
    if tensor.device.type != "cuda":
        return tensor.cpu()
    import torch

    held = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    held.copy_(tensor)
    return held


def available_bytes(cgroup: Path = CGROUP) -> int:
    """What is available on this host, or in this container where that is less.

    Of a container's use, file pages that were not read lately can go, and count as available
    (https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files).
    """
    available = int(psutil.virtual_memory().available)
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
        pages = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return available
    if limit == "max":
        return available
    return min(available, int(limit) - used + int(pages.get("inactive_file", 0)))
