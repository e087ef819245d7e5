"""A running model whose weights are quantized by an allocation, so that other allocations near it can be measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from workers.calibration.divergence import Divergence
from workers.calibration.statistics import Statistics
from workers.compression.mixed_widths.allocation import Allocation
from workers.compression.mixed_widths.group_quantizing import put, quantize_group, replace_weights
from workers.compression.mixed_widths.width_groups import AS_IS, WidthGroup
from workers.stored_forms.single_weights import StoredWeights


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

    def measure(self, allocation: Allocation) -> float:
        """The divergence under this allocation; the model is left as it was."""
        with replace_weights(self.model, dict(self._changes(allocation))):
            return self.divergence.of(self.model)

    def settle(self, allocation: Allocation) -> None:
        """Let the model have this allocation from now on."""
        for name, weight in self._changes(allocation):
            put(self.model, {name: weight})
        self._held = allocation

    def _changes(self, allocation: Allocation) -> Iterator[tuple[str, torch.Tensor]]:
        """The weights in which this allocation differs from what the model holds."""
        for number, group in enumerate(self.groups):
            if self._held is not None and self._held[number] == allocation[number]:
                continue
            bits = list(group.bytes)[allocation[number]]
            for name, weight, widths in quantize_group(group, (bits,), self.weights, self.statistics, self.group_size):
                yield name, (weight if bits == AS_IS else widths[bits].dequantized()).to(self.model.dtype)
