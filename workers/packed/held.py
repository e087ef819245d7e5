"""What a loaded model holds on its device, and the check that it is as much as its files do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from search_spaces.errors import UserError
from search_spaces.sizes.tensor_table import DTYPE_BYTES
from workers.checkpoints.model_files import read_checkpoint
from workers.stored_forms.checkpoint import packed_stems

TOLERANCE = 0.02
FLOATS = ("BF16", "F16", "F32", "F64")
# What bitsandbytes stores beside a weight: codes, scales and the settings of both.
BITSANDBYTES = (".absmax", ".nested_absmax", ".quant_map", ".nested_quant_map", ".SCB", "__nf4", "__fp4")


class DecompressedError(UserError):
    """A model whose weights take other bytes on the device than in its files."""


def held_bytes(model: Any) -> int:
    """Bytes of the model's parameters and buffers, with the scales that bitsandbytes keeps beside its weights; shared
    memory counts once."""
    pieces = {(tensor.data_ptr(), tensor.nbytes): tensor.nbytes for tensor in _tensors(model)}
    return sum(pieces.values())


def stored_bytes(folder: Path, dtype: torch.dtype) -> int:
    """Bytes that the folder's tensors take where dense ones are loaded in this type."""
    return sum(size for _, size in stored_sizes(folder, dtype))


def stored_sizes(folder: Path, dtype: torch.dtype) -> Iterator[tuple[str, int]]:
    """Name and bytes of each of the folder's tensors where dense ones are loaded in this type."""
    tensors = read_checkpoint(folder).tensors
    packed = {f"{stem}.{part}" for stem, parts in packed_stems(tensors).items() for part in parts}
    for name, tensor in tensors.items():
        kept = name in packed or tensor.dtype not in FLOATS or any(part in name for part in BITSANDBYTES)
        yield name, tensor.parameters * (DTYPE_BYTES[tensor.dtype] if kept else dtype.itemsize)


def assert_packed(model: Any, folder: Path) -> None:
    """Raise DecompressedError unless the model holds the bytes its files do, within 2 %."""
    held, stored = held_bytes(model), stored_bytes(folder, model.dtype)
    if abs(held - stored) > TOLERANCE * stored:
        raise DecompressedError(
            f"{folder} takes {stored} bytes in its files and {held} on the device, more than {TOLERANCE:.0%} apart; "
            "its weights are not kept as they are stored, and its speed and memory would be another model's"
        )


def _tensors(model: Any) -> Iterator[torch.Tensor]:
    for parameter in model.parameters():
        yield parameter
        state = getattr(parameter, "quant_state", None)
        for one in (state, getattr(state, "state2", None)):
            for name in ("absmax", "code"):
                if isinstance(found := getattr(one, name, None), torch.Tensor):
                    yield found
        for name in ("SCB",):
            if isinstance(found := getattr(parameter, name, None), torch.Tensor):
                yield found
    yield from model.buffers()
