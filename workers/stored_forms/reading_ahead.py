"""Tensors of a checkpoint brought to a device by threads, some ahead of the one that is worked on.

One thread brings 3 to 5 GB/s of the page cache to a GPU, and less where two trials read at once.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors import safe_open

THREADS = 3
# Tensors under way or waiting, besides the one that is worked on.
AHEAD = 4


def read_ahead(wanted: Sequence[tuple[Path, str]], device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of these files and names on the device, in this order. What was read ahead goes with the iterator."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="reading") as pool:
        under_way: deque[tuple[str, Future[torch.Tensor]]] = deque()
        to_come = enumerate(wanted)
        try:
            while True:
                while len(under_way) <= AHEAD and (following := next(to_come, None)) is not None:
                    number, (file, name) = following
                    under_way.append((name, pool.submit(_read, file, name, device, number % THREADS)))
                if not under_way:
                    return
                name, read = under_way.popleft()
                tensor = read.result()
                if tensor.is_cuda:
                    # It was allocated on another stream, which must not reuse its memory while this one works on it.
                    tensor.record_stream(torch.cuda.current_stream(tensor.device))
                del read
                yield name, tensor
        finally:
            for _, waiting in under_way:
                waiting.cancel()


def _read(file: Path, name: str, device: torch.device, lane: int) -> torch.Tensor:
    """lane: which of a few streams copies, so that few have memory of their own."""
    with safe_open(file, framework="pt", device="cpu") as stream:
        tensor = stream.get_tensor(name)
        if device.type != "cuda":
            return tensor.to(device)
        # On a stream of its own a copy waits for no kernel that the default stream has yet to run.
        with torch.cuda.stream(_stream(device, lane)):
            return tensor.to(device)


@functools.cache
def _stream(device: torch.device, lane: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
