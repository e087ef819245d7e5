"""Calibration statistics of a model: held in memory, or on disk as safetensors, a file a layer.

A Hessian is symmetric, so only the blocks on and right of its diagonal are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from search_spaces.errors import StudyError
from workers.calibration.capture import LayerSums
from workers.runtime.host_memory import PinnedAhead, to_host

INDEX = "statistics.json"
BLOCK = 2048


@dataclass(frozen=True, slots=True)
class LayerStatistics:
    """One decoder layer's sums over all tokens, in host memory."""

    index: int
    tokens: int
    """How many the sums are over."""
    keys: Mapping[str, str]
    """Weight name -> the key of its input, shared by the weights that read the same one."""
    tensors: Mapping[str, torch.Tensor]
    """`KEY.magnitude`, float32 (columns,), and `KEY.hessian.ROW`, the rows of the upper half from ROW on."""

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())


@dataclass(frozen=True, slots=True)
class Statistics:
    """What goes into every linear weight of a model's decoder layers, averaged over the calibration tokens."""

    tokens: int
    """How many they were taken over."""
    keys: Mapping[str, str]
    """Weight name -> the key of its input, shared by the weights that read the same one."""
    layers: Mapping[str, Path | Mapping[str, torch.Tensor]]
    """Weight name -> its layer's file, or its layer's tensors."""

    def hessian(self, weight: str, device: torch.device) -> torch.Tensor:
        """Mean over tokens of x xᵀ, x being what enters the weight: float32 (columns, columns)."""
        rows = self._read(weight, "hessian.", device)
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
        (found,) = self._read(weight, "magnitude", device)
        return found / self.tokens

    def norm(self, weight: str, device: torch.device) -> torch.Tensor:
        """Root of the mean over tokens of x²: float32 (columns,)."""
        return self.hessian(weight, device).diagonal().sqrt()

    def shares_input(self, weight: str) -> list[str]:
        """The weights that read the same input as this one, itself among them, in the model's order."""
        layer, key = self.layers[weight], self.keys[weight]
        return [name for name in self.keys if self.keys[name] == key and _is_same(self.layers[name], layer)]

    def _read(self, weight: str, what: str, device: torch.device) -> list[torch.Tensor]:
        """The tensors of the weight's input whose names go on so, in order."""
        if weight not in self.layers:
            raise StudyError(
                f"there are no calibration statistics for {weight}: the model does not run it as a torch.nn.Linear of "
                "that name. Use a method without calibration (rtn, hqq, bitsandbytes)"
            )
        layer, begin = self.layers[weight], f"{self.keys[weight]}.{what}"
        if not isinstance(layer, Path):
            return [layer[name].to(device) for name in sorted(layer) if name.startswith(begin)]
        with safe_open(layer, framework="pt", device=str(device)) as stream:
            return [stream.get_tensor(name) for name in sorted(stream.keys()) if name.startswith(begin)]


def statistics_in_memory(layers: Iterable[LayerStatistics]) -> Statistics:
    """The statistics that these layers hold."""
    keys: dict[str, str] = {}
    tensors: dict[str, Path | Mapping[str, torch.Tensor]] = {}
    tokens = 0
    for layer in layers:
        keys |= layer.keys
        tensors |= dict.fromkeys(layer.keys, layer.tensors)
        tokens = layer.tokens
    return Statistics(tokens, keys, tensors)


def upper_halves(layers: Iterable[LayerSums], prefix: str, count: int) -> Iterator[LayerStatistics]:
    """The sums as they come, moved into host memory. prefix: of weight names, such as `model.layers`. count: of
    layers."""
    memory = PinnedAhead()
    try:
        for sums in layers:
            again = sums.index < count - 1
            tensors: dict[str, torch.Tensor] = {}
            for key, inputs in sums.inputs.items():
                tensors[f"{key}.magnitude"] = to_host(inputs.magnitude)
                for start in range(0, inputs.hessian.shape[0], BLOCK):
                    # A copy, so that nothing keeps the whole alive.
                    rows = inputs.hessian[start : start + BLOCK, start:].clone(memory_format=torch.contiguous_format)
                    tensors[f"{key}.hessian.{start:06d}"] = memory.to_host(rows, again)
            keys = {f"{prefix}.{sums.index}.{weight}": key for weight, key in sums.keys.items()}
            yield LayerStatistics(sums.index, sums.tokens, keys, tensors)
    finally:
        memory.close()


def write_statistics(folder: Path, layers: Iterable[LayerStatistics]) -> None:
    """Write the layers as they come, a file each."""
    files: dict[str, str] = {}
    keys: dict[str, str] = {}
    tokens = 0
    for layer in layers:
        name = f"layer-{layer.index:04d}.safetensors"
        save_file(dict(layer.tensors), folder / name)
        files |= dict.fromkeys(layer.keys, name)
        keys |= layer.keys
        tokens = layer.tokens
    record = {"tokens": tokens, "files": files, "keys": keys}
    (folder / INDEX).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_statistics(folder: Path) -> Statistics:
    """The statistics that `write_statistics` wrote; tensors are read when they are asked for."""
    record = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    return Statistics(record["tokens"], record["keys"], {name: folder / file for name, file in record["files"].items()})


def _is_same(one: Path | Mapping[str, torch.Tensor], other: Path | Mapping[str, torch.Tensor]) -> bool:
    return one == other if isinstance(one, Path) and isinstance(other, Path) else one is other
