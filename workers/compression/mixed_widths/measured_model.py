"""A running model whose weights are quantized by an allocation, so that other allocations near it can be measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from search_spaces.sizes.tensor_table import layer_of
from workers.calibration.divergence import Divergence
from workers.calibration.statistics import Statistics
from workers.compression.mixed_widths.allocation import Allocation
from workers.compression.mixed_widths.group_quantizing import put, quantize_group, replace_weights
from workers.compression.mixed_widths.width_groups import AS_IS, WidthGroup
from workers.runtime.gpu_memory import free_memory
from workers.stored_forms.single_weights import StoredWeights

# What weights are kept in: a share of a GPU's free memory, or so many bytes of the host's.
DEVICE_SHARE = 0.25
MOST_BYTES = 2 * 2**30


@dataclass(slots=True)
class MeasuredModel:
    """A model whose divergence from its parent is measured under allocations. It starts out with the parent's
    weights."""

    model: Any
    """The model whose weights are exchanged."""
    divergence: Divergence
    """How far a model is from the parent."""
    weights: StoredWeights
    """The parent's stored weights."""
    statistics: Statistics
    """The calibration statistics."""
    groups: list[WidthGroup]
    """The groups of weights, in the order of allocations."""
    group_size: int
    """Columns that share a scale."""
    _held: Allocation | None = field(init=False, default=None)
    """The allocation that the model has now; None for the parent's weights."""
    _made: dict[tuple[int, int], dict[str, torch.Tensor]] = field(init=False, default_factory=dict)
    """Group and width -> its weights, the last that was asked for at the end."""

    def measure(self, allocation: Allocation) -> float:
        """The divergence under this allocation; the model is left as it was."""
        changes = dict(self._changes(allocation, keep=True))
        first = min((layer_of(name) or 0 for name in changes), default=0) if self._held is not None else 0
        with replace_weights(self.model, changes):
            return self.divergence.of(self.model, first)

    def settle(self, allocation: Allocation) -> None:
        """Let the model have this allocation from now on."""
        for name, weight in self._changes(allocation, keep=False):
            put(self.model, {name: weight})
        self._held = allocation
        self.divergence.remember(self.model)

    def _changes(self, allocation: Allocation, keep: bool) -> Iterator[tuple[str, torch.Tensor]]:
        """The weights in which this allocation differs from what the model holds. keep: for when they are asked for
        again, since swaps near each other have moves in common."""
        for number, group in enumerate(self.groups):
            if self._held is not None and self._held[number] == allocation[number]:
                continue
            bits = list(group.bytes)[allocation[number]]
            made = self._made.pop((number, bits), None)
            if made is None:
                made = dict(self._quantized(group, bits))
            if keep:
                self._made[number, bits] = made
                self._forget_oldest()
            yield from made.items()

    def _quantized(self, group: WidthGroup, bits: int) -> Iterator[tuple[str, torch.Tensor]]:
        for name, weight, widths in quantize_group(group, (bits,), self.weights, self.statistics, self.group_size):
            yield name, (weight if bits == AS_IS else widths[bits].dequantized()).to(self.model.dtype)

    def _forget_oldest(self) -> None:
        """Keep to the share of memory; the last stays in any case."""
        held = sum(weight.nbytes for made in self._made.values() for weight in made.values())
        device = self.weights.device
        most = DEVICE_SHARE * (free_memory(device) + held) if device.type == "cuda" else MOST_BYTES
        while held > most and len(self._made) > 1:
            held -= sum(weight.nbytes for weight in self._made.pop(next(iter(self._made))).values())
