"""Calibration statistics on disk: written layer by layer as safetensors, read back one weight at a time.

A Hessian is symmetric, so only the blocks on and right of its diagonal are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from search_spaces.errors import StudyError
from workers.calibration.capture import LayerSums

INDEX = "statistics.json"
BLOCK = 2048


@dataclass(frozen=True, slots=True)
class Statistics:
    """Read statistics. tokens: how many they were taken over. files: weight name -> its file. keys: weight name -> the
    key of its input, shared by the weights that read the same one."""

    folder: Path
    tokens: int
    files: dict[str, str]
    keys: dict[str, str]

    def hessian(self, weight: str, device: torch.device) -> torch.Tensor:
        """Mean over tokens of x xᵀ, x being what enters the weight: float32 (columns, columns)."""
        with self._open(weight, device) as stream:
            key = self.keys[weight]
            rows = [stream.get_tensor(name) for name in _block_names(stream, key)]
        width = rows[0].shape[1]
        full = torch.zeros(width, width, dtype=torch.float32, device=device)
        start = 0
        for block in rows:
            full[start : start + block.shape[0], start:] = block
            full[start:, start : start + block.shape[0]] = block.T
            start += block.shape[0]
        return full / self.tokens

    def magnitude(self, weight: str, device: torch.device) -> torch.Tensor:
        """Mean over tokens of |x|: float32 (columns,)."""
        with self._open(weight, device) as stream:
            found: torch.Tensor = stream.get_tensor(f"{self.keys[weight]}.magnitude")
        return found / self.tokens

    def norm(self, weight: str, device: torch.device) -> torch.Tensor:
        """Root of the mean over tokens of x²: float32 (columns,)."""
        return self.hessian(weight, device).diagonal().sqrt()

    def shares_input(self, weight: str) -> list[str]:
        """The weights that read the same input as this one, itself among them, in the model's order."""
        return [
            name
            for name in self.keys
            if self.keys[name] == self.keys[weight] and self.files[name] == self.files[weight]
        ]

    def _open(self, weight: str, device: torch.device) -> Any:
        if weight not in self.files:
            raise StudyError(
                f"there are no calibration statistics for {weight}: the model does not run it as a torch.nn.Linear of "
                "that name. Use a method without calibration (rtn, hqq, bitsandbytes)"
            )
        return safe_open(self.folder / self.files[weight], framework="pt", device=str(device))


def write_statistics(folder: Path, layers: Iterable[LayerSums], prefix: str) -> None:
    """Write the sums as they come, a file a layer. prefix: of weight names, such as `model.layers`."""
    files: dict[str, str] = {}
    keys: dict[str, str] = {}
    tokens = 0
    for sums in layers:
        name = f"layer-{sums.index:04d}.safetensors"
        tensors: dict[str, torch.Tensor] = {}
        for key, inputs in sums.inputs.items():
            tensors[f"{key}.magnitude"] = inputs.magnitude.cpu()
            for start in range(0, inputs.hessian.shape[0], BLOCK):
                block = inputs.hessian[start : start + BLOCK, start:].contiguous().cpu()
                tensors[f"{key}.hessian.{start:06d}"] = block
        save_file(tensors, folder / name)
        for weight, key in sums.keys.items():
            files[f"{prefix}.{sums.index}.{weight}"] = name
            keys[f"{prefix}.{sums.index}.{weight}"] = key
        tokens = sums.tokens
    record = {"tokens": tokens, "files": files, "keys": keys}
    (folder / INDEX).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_statistics(folder: Path) -> Statistics:
    """The statistics that `write_statistics` wrote."""
    record = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    return Statistics(folder, record["tokens"], record["files"], record["keys"])


def _block_names(stream: Any, key: str) -> list[str]:
    return sorted(name for name in stream.keys() if name.startswith(f"{key}.hessian."))  # noqa: SIM118
