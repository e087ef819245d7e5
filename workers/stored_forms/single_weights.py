"""Reading single weights of a checkpoint in any order, whatever their stored form."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from search_spaces.sizes.tensor_table import Checkpoint
from workers.checkpoints.model_files import read_config, read_header, weight_files
from workers.stored_forms.checkpoint import packed_stems
from workers.stored_forms.packing import unpack
from workers.stored_forms.quantization_config import bits_of


@dataclass(slots=True)
class StoredWeights:
    """A model folder whose weights are read by name, such as `model.layers.0.mlp.up_proj.weight`."""

    folder: Path
    device: torch.device
    _files: dict[str, Path] = field(init=False)
    _packed: dict[str, set[str]] = field(init=False)
    _config: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self._files = {name: file for file in weight_files(self.folder) for name in read_header(file)[0]}
        self._packed = packed_stems(self._files)
        self._config = read_config(self.folder)

    def read(self, weight: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The dense weight and, of a sparse one, its mask; raises KeyError for a name the folder does not hold."""
        stem = weight.removesuffix(".weight")
        if stem not in self._packed:
            return self._tensor(weight), None
        parts = {part: self._tensor(f"{stem}.{part}") for part in sorted(self._packed[stem])}
        return unpack(parts, bits_of(stem, self._config))

    def sparse_columns(self) -> dict[str, int]:
        """The stem of every sparse weight -> the columns of the dense one it stands for."""
        return {
            stem: int(self._tensor(f"{stem}.weight_shape")[1])
            for stem, parts in self._packed.items()
            if "weight_values" in parts
        }

    def _tensor(self, name: str) -> torch.Tensor:
        with safe_open(self._files[name], framework="pt", device=str(self.device)) as stream:
            found: torch.Tensor = stream.get_tensor(name)
        return found


def with_sparse_columns(checkpoint: Checkpoint, weights: StoredWeights) -> Checkpoint:
    """The table of a folder with the columns of its sparse weights, which their stored shapes tell."""
    return replace(checkpoint, sparse=weights.sparse_columns())
