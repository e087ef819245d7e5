"""Groups of weights at the widths that they were quantized to, kept as far as memory goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from workers.runtime.gpu_memory import free_memory
from workers.stored_forms.integer_grid import QuantizedWeight

# What groups are kept in: a share of a GPU's free memory, or so many bytes of the host's.
DEVICE_SHARE = 0.25
MOST_BYTES = 2 * 2**30

Weights = Mapping[str, QuantizedWeight]


@dataclass(slots=True)
class QuantizedGroups:
    """What a profile quantized, a model that is measured next need not quantize again."""

    device: torch.device
    """Where the weights lie."""
    _kept: dict[tuple[str, int], Weights] = field(init=False, default_factory=dict)
    """Group's name and width -> its weights, the last that was asked for at the end."""

    def get(self, group: str, bits: int) -> Weights | None:
        """The group's weights by name, None where they are not kept."""
        found = self._kept.pop((group, bits), None)
        if found is not None:
            self._kept[group, bits] = found
        return found

    def keep(self, group: str, bits: int, weights: Weights) -> None:
        """Keep these too; the oldest go where memory is short, and the last stay in any case."""
        self._kept[group, bits] = weights
        held = sum(map(_bytes, self._kept.values()))
        most = DEVICE_SHARE * (free_memory(self.device) + held) if self.device.type == "cuda" else MOST_BYTES
        while held > most and len(self._kept) > 1:
            held -= _bytes(self._kept.pop(next(iter(self._kept))))


def _bytes(weights: Weights) -> int:
    tensors = [
        tensor
        for weight in weights.values()
        for tensor in (weight.integers, weight.grid.scale, weight.grid.zero_point, weight.mask)
    ]
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)
