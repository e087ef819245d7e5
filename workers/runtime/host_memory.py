"""The host's memory: how much of it a process may still take, and how tensors of a GPU come into it."""

from __future__ import annotations

from collections import defaultdict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    held = _pinned(tensor.shape, tensor.dtype)
    held.copy_(tensor)
    return held


class PinnedAhead:
    """`to_host` for tensors that come again and again in the same shapes, such as those of a model's layers: memory for
    the next of a shape is pinned by threads while the GPU works on it. Pages are pinned at about 1 GB/s a thread."""

    def __init__(self, threads: int = 2) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="pinning")
        self._ready: dict[tuple[Any, torch.dtype], deque[Future[torch.Tensor]]] = defaultdict(deque)

    def to_host(self, tensor: torch.Tensor, again: bool) -> torch.Tensor:
        """The tensor in host memory. again: whether another of its shape and type is to come."""
        if tensor.device.type != "cuda":
            return tensor.cpu()
        ready = self._ready[tensor.shape, tensor.dtype]
        held = ready.popleft().result() if ready else _pinned(tensor.shape, tensor.dtype)
        if again:
            ready.append(self._pool.submit(_pinned, tensor.shape, tensor.dtype))
        held.copy_(tensor)
        return held

    def close(self) -> None:
        """Let the threads go, and what they pinned for nothing."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._ready.clear()


def _pinned(shape: Any, dtype: torch.dtype) -> torch.Tensor:
    import torch

    return torch.empty(shape, dtype=dtype, pin_memory=True)


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
