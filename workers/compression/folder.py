"""Writing a compressed checkpoint folder tensor by tensor, and copying what compression leaves alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from workers.model_files import CONFIG, SMALL_FILES, WEIGHTS_INDEX, weight_files

SHARD_BYTES = 5 * 10**9


def stored_tensors(folder: Path, device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of the checkpoint, one at a time, in file order."""
    for file in weight_files(folder):
        with safe_open(file, framework="pt", device=str(device)) as stream:
            for name in stream.keys():  # noqa: SIM118 (safe_open is no mapping)
                yield name, stream.get_tensor(name)


def copy_small_files(parent: Path, out: Path) -> None:
    """Tokenizer, config and generation config; not the weights, nor the index that names their shards."""
    for name in SMALL_FILES:
        if name != WEIGHTS_INDEX and (parent / name).is_file():
            shutil.copyfile(parent / name, out / name)


def write_config(out: Path, config: dict[str, Any]) -> None:
    """config.json, in the form transformers writes."""
    (out / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_tensors(out: Path, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """The tensors as safetensors: one file, or shards of 5 GB with an index as transformers names them."""
    shards: list[list[str]] = []
    shard: dict[str, torch.Tensor] = {}
    size = 0
    for name, tensor in tensors:
        tensor = tensor.contiguous().cpu()
        if shard and size + tensor.nbytes > SHARD_BYTES:
            shards.append(_write_shard(out, len(shards), shard))
            shard, size = {}, 0
        shard[name] = tensor
        size += tensor.nbytes
    shards.append(_write_shard(out, len(shards), shard))
    _name_shards(out, shards)


def _write_shard(out: Path, number: int, shard: dict[str, torch.Tensor]) -> list[str]:
    save_file(shard, out / f"shard-{number}.safetensors", metadata={"format": "pt"})
    return list(shard)


def _name_shards(out: Path, shards: list[list[str]]) -> None:
    if len(shards) == 1:
        (out / "shard-0.safetensors").rename(out / "model.safetensors")
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards):
        final = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        (out / f"shard-{number}.safetensors").rename(out / final)
        weight_map.update(dict.fromkeys(names, final))
    total = sum(file.stat().st_size for file in out.glob("*.safetensors"))
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (out / WEIGHTS_INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
