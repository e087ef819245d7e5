"""Statistics that this process keeps between trials, in a share of the host's memory.

On disk those of a 7B model are larger than the model. A worker that goes on with the same parent finds them here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from workers.calibration.statistics import LayerStatistics, Statistics, statistics_in_memory
from workers.runtime.host_memory import available_bytes

# Of the memory that is available, what is kept here included.
SHARE = 0.4


@dataclass(slots=True)
class KeptStatistics:
    """Statistics by their names, the last that was asked for at the end."""

    found: dict[str, Statistics] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def get(self, name: str) -> Statistics | None:
        if name not in self.found:
            return None
        self.found[name] = self.found.pop(name)
        return self.found[name]

    def take(self, name: str, layers: Iterator[LayerStatistics]) -> list[LayerStatistics] | None:
        """Keep all layers under the name; None when that is done. Where there is no memory for all of them, the layers
        that were taken are handed back, and the others are still to come."""
        taken: list[LayerStatistics] = []
        size = 0
        for layer in layers:
            taken.append(layer)
            size += layer.bytes
            if not self._fits(size):
                return taken
        self.found[name], self.sizes[name] = statistics_in_memory(taken), size
        return None

    def _fits(self, size: int) -> bool:
        """Whether so many bytes, which are taken already, are within the share; the oldest others make room."""
        while True:
            held = sum(self.sizes.values())
            room = SHARE * (available_bytes() + held + size)
            if held + size <= room:
                return True
            if not self.found:
                return False
            oldest = next(iter(self.found))
            del self.found[oldest], self.sizes[oldest]


KEPT = KeptStatistics()
