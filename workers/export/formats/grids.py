"""A kept model's weights as they are stored: which lie on which integer grid, and each by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from workers.checkpoints.model_files import read_config, read_header, weight_files
from workers.stored_forms.checkpoint import packed_stems
from workers.stored_forms.integer_grid import QuantizedWeight
from workers.stored_forms.packing import unpack, unpack_grid
from workers.stored_forms.quantization_config import bits_of


@dataclass(frozen=True, slots=True)
class WeightForm:
    """How a weight is stored."""

    shape: tuple[int, ...]
    bits: int | None = None
    """Of integers on a grid; None for values."""
    group_size: int = 0
    """Columns that share a scale."""
    symmetric: bool = True
    """Whether the grid has no zero points."""
    type: str = ""
    """Of values, as safetensors names it."""


@dataclass(slots=True)
class KeptWeights:
    """The weights of a model's folder, by the names that transformers knows."""

    folder: Path
    config: dict[str, Any] = field(init=False)
    _entries: dict[str, tuple[Path, Mapping[str, Any]]] = field(init=False)
    _packed: dict[str, set[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.config = read_config(self.folder)
        self._entries = {
            name: (file, entry) for file in weight_files(self.folder) for name, entry in read_header(file)[0].items()
        }
        self._packed = packed_stems(self._entries)

    def forms(self) -> dict[str, WeightForm]:
        """Weight's name -> how it is stored, in the folder's order."""
        found: dict[str, WeightForm] = {}
        for name, (_, entry) in self._entries.items():
            stem, _, part = name.rpartition(".")
            if stem not in self._packed or part not in self._packed[stem]:
                found[name] = WeightForm(tuple(entry["shape"]), type=entry["dtype"])
            elif f"{stem}.weight" not in found:
                found[f"{stem}.weight"] = self._form(stem)
        return found

    def read(self, name: str) -> QuantizedWeight | torch.Tensor:
        """A weight on its grid where it is stored as packed integers, else its values: float32 where they were
        quantized. Raises KeyError for a name that the folder does not hold."""
        stem = name.removesuffix(".weight")
        if stem not in self._packed:
            return self._tensor(name)
        parts = {part: self._tensor(f"{stem}.{part}") for part in self._packed[stem]}
        bits = bits_of(stem, self.config)
        if "weight_packed" in parts and bits is not None:
            return unpack_grid(parts, bits)
        return unpack(parts, bits)[0]

    def _form(self, stem: str) -> WeightForm:
        parts = self._packed[stem]
        if "weight_shape" in parts:
            shape = tuple(self._tensor(f"{stem}.weight_shape").tolist())
        else:
            shape = tuple(self._entries[f"{stem}.weight"][1]["shape"])
        bits = bits_of(stem, self.config) if "weight_packed" in parts else None
        if bits is None:
            kind = self._entries[f"{stem}.weight_values" if "weight_values" in parts else f"{stem}.weight"][1]["dtype"]
            return WeightForm(shape, type=kind)
        groups = self._entries[f"{stem}.weight_scale"][1]["shape"][-1]
        return WeightForm(shape, bits, shape[1] // groups, "weight_zero_point" not in parts)

    def _tensor(self, name: str) -> torch.Tensor:
        with safe_open(self._entries[name][0], framework="pt") as stream:
            found: torch.Tensor = stream.get_tensor(name)
        return found
