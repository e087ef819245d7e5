"""Reading a checkpoint's weights whatever their stored form, and writing a compressed checkpoint tensor by tensor.

A folder that transformers can't load by itself has its weights in files named `packed…` instead of `model…`: plain
transformers then says that it finds no weights, where it would otherwise run with random ones.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from workers.checkpoints.model_files import (
    CONFIG,
    SMALL_FILES,
    WEIGHTS_INDEXES,
    code_files,
    config_text,
    read_checkpoint,
    read_config,
    weight_files,
)
from workers.runtime.atomic_files import sync
from workers.runtime.host_memory import to_host
from workers.stored_forms.packing import unpack
from workers.stored_forms.quantization_config import bits_of
from workers.stored_forms.reading_ahead import read_ahead

SHARD_BYTES = 2 * 10**9
PLAIN = "model"
OWN = "packed"
STORED_PARTS = frozenset(
    {"weight", "weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_mask", "weight_values"}
)


def stored_tensors(folder: Path, device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of the checkpoint as it is stored, one at a time, in file order. A GPU's are read ahead."""
    wanted: list[tuple[Path, str]] = []
    for file in weight_files(folder):
        with safe_open(file, framework="pt", device="cpu") as stream:
            names = list(stream.keys())
            if device.type != "cuda":
                yield from ((name, stream.get_tensor(name)) for name in names)
        wanted += [(file, name) for name in names]
    if device.type == "cuda":
        yield from read_ahead(wanted, device)


def every_weight(name: str) -> bool:
    """Decode every weight: what `dense_tensors` does unless it is told otherwise."""
    return True


def dense_tensors(
    folder: Path, device: torch.device, decoded: Callable[[str], bool] = every_weight
) -> Iterator[tuple[str, torch.Tensor, torch.Tensor | None]]:
    """Every tensor under the name transformers knows, with the mask of a sparse weight.

    Packed and sparse weights come as the dense weights they stand for: float32 where they were quantized. decoded:
    says of a weight's name, such as `lm_head.weight`, whether it is; the parts of the others come as they are stored.
    The parts of one weight may lie in different shards.
    """
    config = read_config(folder)
    stems: dict[str, dict[str, torch.Tensor]] = {}
    found = packed_stems(read_checkpoint(folder).tensors)
    packed = {stem: parts for stem, parts in found.items() if decoded(f"{stem}.weight")}
    for name, tensor in stored_tensors(folder, device):
        stem, _, part = name.rpartition(".")
        if stem not in packed or part not in packed[stem]:
            yield name, tensor, None
            continue
        parts = stems.setdefault(stem, {})
        parts[part] = tensor
        if parts.keys() == packed[stem]:
            weight, mask = unpack(stems.pop(stem), bits_of(stem, config))
            yield f"{stem}.weight", weight, mask


def packed_stems(names: Iterable[str]) -> dict[str, set[str]]:
    """The stems of weights stored as several tensors, each with the names of its parts."""
    parts: dict[str, set[str]] = {}
    for name in names:
        stem, _, part = name.rpartition(".")
        if part in STORED_PARTS:
            parts.setdefault(stem, set()).add(part)
    return {stem: found for stem, found in parts.items() if found != {"weight"}}


def copy_small_files(parent: Path, out: Path) -> None:
    """Tokenizer, config, generation config and code of the model's own; not the weights, nor the index that names their
    shards, nor an adapter."""
    beside = [parent / name for name in SMALL_FILES if name not in WEIGHTS_INDEXES and (parent / name).is_file()]
    for file in [*beside, *code_files(parent)]:
        shutil.copyfile(file, out / file.name)


def write_config(out: Path, config: dict[str, Any]) -> None:
    """config.json, in the form transformers writes."""
    (out / CONFIG).write_text(config_text(config), encoding="utf-8")


def write_tensors(out: Path, tensors: Iterable[tuple[str, torch.Tensor]], name: str = PLAIN) -> None:
    """The tensors as safetensors: one file, or shards of 2 GB with an index as transformers names them.

    A shard is written while the tensors of the next are made, so host memory holds two. name: PLAIN, or OWN for a
    checkpoint that only this project's loader can read.
    """
    shards: list[list[str]] = []
    shard: dict[str, torch.Tensor] = {}
    size = 0
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="shard") as beside:
        under_way: Future[None] | None = None
        for key, tensor in tensors:
            tensor = to_host(tensor.contiguous())
            if shard and size + tensor.nbytes > SHARD_BYTES:
                if under_way is not None:
                    under_way.result()
                under_way = beside.submit(_write_shard, out, len(shards), shard)
                shards.append(list(shard))
                shard, size = {}, 0
            shard[key] = tensor
            size += tensor.nbytes
        if under_way is not None:
            under_way.result()
        _write_shard(out, len(shards), shard)
        shards.append(list(shard))
    _name_shards(out, shards, name)


def _write_shard(out: Path, number: int, shard: dict[str, torch.Tensor]) -> None:
    file = out / f"shard-{number}.safetensors"
    save_file(shard, file, metadata={"format": "pt"})
    # Whoever needs it on the disk waits for less at the end.
    sync(file)


def _name_shards(out: Path, shards: list[list[str]], name: str) -> None:
    if len(shards) == 1:
        (out / "shard-0.safetensors").rename(out / f"{name}.safetensors")
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards):
        final = f"{name}-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        (out / f"shard-{number}.safetensors").rename(out / final)
        weight_map.update(dict.fromkeys(names, final))
    total = sum(file.stat().st_size for file in out.glob("*.safetensors"))
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (out / f"{name}.safetensors.index.json").write_text(
        json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )
