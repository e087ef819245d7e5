"""Named tensors to and from one safetensors file, a tensor at a time, so that host memory holds no second copy of all.

The format is https://github.com/huggingface/safetensors#format: a header's length, the header as JSON, the bytes. It is
written here because the library's own writer wants every tensor in host memory at once, and reports a full disk as an
error without a number.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open

DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}
FLOATS = {name: dtype for dtype, name in DTYPES.items()}
ALIGNMENT = 8


def header_of(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """The file's first bytes: all that stands before the tensors. Raises KeyError for a type that is not a float."""
    entries: dict[str, dict[str, object]] = {}
    start = 0
    for name, tensor in _ordered(tensors):
        span = [start, start + tensor.nbytes]
        entries[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": span}
        start = span[1]
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def bytes_of(tensors: Mapping[str, torch.Tensor]) -> int:
    """The size of the file that `write_tensors` makes."""
    return len(header_of(tensors)) + sum(int(tensor.nbytes) for tensor in tensors.values())


def write_tensors(file: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """The tensors, from whatever device, in a file that is on the disk when this returns. Raises OSError."""
    with file.open("wb", buffering=0) as stream:
        _write_all(stream.fileno(), header_of(tensors))
        for _, tensor in _ordered(tensors):
            if tensor.numel():
                flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
                _write_all(stream.fileno(), memoryview(flat.numpy()))
        os.fsync(stream.fileno())


def read_tensors(file: Path, device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of the file, one at a time, on that device."""
    with safe_open(file, framework="pt", device=str(device)) as stream:
        for name in stream.keys():  # noqa: SIM118 (safe_open is no mapping)
            yield name, stream.get_tensor(name)


def _ordered(tensors: Mapping[str, torch.Tensor]) -> list[tuple[str, torch.Tensor]]:
    """Wide types first, so that every tensor lies aligned in the file."""
    return sorted(tensors.items(), key=lambda item: -item[1].itemsize)


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
