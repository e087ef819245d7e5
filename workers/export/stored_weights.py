"""Loads the stored forms that transformers can't: packed embeddings, sparse weights, an adapter kept apart.

This file is copied beside an exported model and imports torch, safetensors and transformers alone. The weights lie in
`packed*.safetensors` where transformers by itself would not find all that it needs. They are decoded to dense ones,
worked out in float32 and rounded once, and handed to transformers as a state dict.

Packed integers: b bits each, without gaps, in int32 words from the lowest bit on, plus 2^(b-1); zero points likewise,
down the columns. A weight is (integer - zero point) * scale, a scale a group of consecutive columns. Sparse weights: a
bit a weight, the first column in the lowest bit, and the kept weights of each row in column order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

Tensors = dict[str, torch.Tensor]

PARTS = frozenset(
    {"weight", "weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_mask", "weight_values"}
)
ADAPTER = "adapter"
# What peft puts before a weight's name.
BEFORE = "base_model.model."
LEFTOVER = re.compile(r"\b(rotary_emb\.(inv_freq|cos_cached|sin_cached)|(self_attn|attention|attn)\.(masked_)?bias)$")
EMBEDDINGS = ("embed_tokens", "lm_head")


def is_stored_apart(folder: Path) -> bool:
    """Whether transformers by itself would not load the folder as it is meant."""
    return any(folder.glob("packed*.safetensors")) or (folder / ADAPTER).is_dir()


def load_stored(folder: Path, dtype: torch.dtype, device: torch.device, trust_remote_code: bool = False) -> Any:
    """The model in eval mode, on the device. dtype: of its weights.

    Raises ValueError for weights and a config.json that are not of one model.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    quantization = _json(folder / "config.json").get("quantization_config", {})
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    if quantization:
        del config.quantization_config
    with torch.device("meta"):
        architecture = type(AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=trust_remote_code))
    stays = runs_quantized(quantization)
    if stays:
        config.quantization_config = for_layers(quantization)
    model, found = architecture.from_pretrained(
        None,
        config=config,
        state_dict=dict(state(folder, dtype, device, stays)),
        dtype=dtype,
        device_map={"": device},
        output_loading_info=True,
    )
    wrong = [*found["missing_keys"], *(name for name in found["unexpected_keys"] if not LEFTOVER.search(name))]
    if wrong:
        raise ValueError(f"the weights in {folder} are not those of its config.json: {', '.join(sorted(wrong)[:3])}")
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model.eval()


def runs_quantized(quantization: Mapping[str, Any]) -> bool:
    """Whether layers stay as they are stored: those of bitsandbytes, and those whose inputs are quantized."""
    groups = quantization.get("config_groups", {}).values()
    return quantization.get("quant_method") == "bitsandbytes" or any(group.get("input_activations") for group in groups)


def for_layers(quantization: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a quantization config that is for the layers alone."""
    rest = {key: value for key, value in quantization.items() if key != "config_groups"}
    groups = {
        name: {**group, "targets": kept}
        for name, group in quantization.get("config_groups", {}).items()
        if (kept := [target for target in group["targets"] if target == "Linear" or target.startswith("re:")])
    }
    if not groups:
        return rest
    return {**rest, "config_groups": groups, "ignore": sorted({*quantization.get("ignore", ()), "lm_head"})}


def state(
    folder: Path, dtype: torch.dtype, device: torch.device, embeddings_alone: bool = False
) -> Iterator[tuple[str, torch.Tensor]]:
    """Every weight by the name that transformers knows, decoded, with its adapter in it.

    embeddings_alone: whether the layers' weights come as they are stored.
    """
    config = _json(folder / "config.json")
    low = adapters(folder, device)
    files = weight_files(folder)
    parts: dict[str, set[str]] = {}
    for file in files:
        with safe_open(file, framework="pt") as stream:
            for name in stream.keys():  # noqa: SIM118 (safe_open is no mapping)
                stem, _, part = name.rpartition(".")
                if part in PARTS and (not embeddings_alone or stem.endswith(EMBEDDINGS)):
                    parts.setdefault(stem, set()).add(part)
    packed = {stem: names for stem, names in parts.items() if names != {"weight"}}
    held: dict[str, Tensors] = {}
    for file in files:
        with safe_open(file, framework="pt", device=str(device)) as stream:
            for name in stream.keys():  # noqa: SIM118
                stem, _, part = name.rpartition(".")
                tensor = stream.get_tensor(name)
                if stem in packed and part in packed[stem]:
                    of_stem = held.setdefault(stem, {})
                    of_stem[part] = tensor
                    if of_stem.keys() != packed[stem]:
                        continue
                    name, tensor = f"{stem}.weight", decoded(held.pop(stem), bits_of(stem, config))
                if part in PARTS and stem in low:
                    tensor = merged(tensor, low[stem])
                elif stem not in packed:
                    yield name, tensor
                    continue
                yield name, tensor.to(dtype)


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights: one, or those of the index."""
    for name in ("model", "packed"):
        if (folder / f"{name}.safetensors").is_file():
            return [folder / f"{name}.safetensors"]
        index = folder / f"{name}.safetensors.index.json"
        if index.is_file():
            return [folder / file for file in sorted(set(_json(index)["weight_map"].values()))]
    raise ValueError(f"{folder} holds no weights")


def decoded(stored: Tensors, bits: int | None) -> torch.Tensor:
    """One dense weight from its stored parts: float32 where it was quantized. bits: of packed integers."""
    if "weight_packed" in stored and bits is not None:
        shape = torch.Size(stored["weight_shape"].tolist())
        mask = mask_of(stored["weight_mask"], shape) if "weight_mask" in stored else None
        columns = shape[1] if mask is None else int(mask[0].sum())
        integers = unpacked(stored["weight_packed"], bits, columns)
        if mask is not None:
            integers = scattered(integers, mask)
        values = integers.float().reshape(shape[0], stored["weight_scale"].shape[1], -1)
        if "weight_zero_point" in stored:
            zero = unpacked(stored["weight_zero_point"].t(), bits, shape[0]).t()
            values = values - zero.float()[..., None]
        values = (values * stored["weight_scale"].float()[..., None]).reshape(shape)
        return values if mask is None else values * mask
    if "weight_values" in stored:
        mask = mask_of(stored["weight_mask"], torch.Size(stored["weight_shape"].tolist()))
        return scattered(stored["weight_values"], mask)
    if "weight" in stored and "weight_scale" in stored:
        return stored["weight"].float() * stored["weight_scale"].float()
    raise ValueError(f"no weight is stored as {', '.join(sorted(stored))}")


def unpacked(words: torch.Tensor, bits: int, columns: int) -> torch.Tensor:
    """(rows, words) int32 -> (rows, columns) int8: integers of so many bits, which may lie across two words."""
    start = torch.arange(columns, device=words.device) * bits
    wide = torch.nn.functional.pad(words.long() & 0xFFFFFFFF, (0, 1))
    word = start // 32
    pair = wide[:, word] | (wide[:, word + 1] << 32)
    return (((pair >> (start % 32)) & ((1 << bits) - 1)) - (1 << (bits - 1))).to(torch.int8)


def mask_of(stored: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """(rows, bytes) uint8 -> (rows, columns) bool."""
    places = torch.arange(8, dtype=torch.uint8, device=stored.device)
    return ((stored[..., None] >> places) & 1).bool().reshape(shape[0], -1)[:, : shape[1]]


def scattered(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The dense weight whose kept values these are; zeros elsewhere."""
    dense = torch.zeros(mask.shape, dtype=values.dtype, device=values.device)
    dense[mask] = values.reshape(-1)
    return dense


def bits_of(stem: str, config: Mapping[str, Any]) -> int | None:
    """The bits of a weight's packed integers: by a target that names it, else by one that names its class."""
    groups = config.get("quantization_config", {}).get("config_groups", {}).values()
    in_layer = re.search(r"\blayers\.\d+\.", stem) is not None

    def named(target: str) -> bool:
        return re.match(target[3:], stem) is not None if target.startswith("re:") else target == stem

    def of_class(target: str) -> bool:
        return (target == "Linear" and in_layer) or (target == "Embedding" and stem.endswith("embed_tokens"))

    for matches in (named, of_class):
        for group in groups:
            if any(matches(target) for target in group["targets"]):
                return int(group["weights"]["num_bits"])
    return None


def adapters(folder: Path, device: torch.device) -> dict[str, Tensors]:
    """Weight's name -> `down`, `up`, `scaling` and, for DoRA, `magnitude`; {} where no adapter is kept apart."""
    if not (folder / ADAPTER).is_dir():
        return {}
    settings = _json(folder / ADAPTER / "adapter_config.json")
    scaling = torch.tensor(settings["lora_alpha"] / settings["r"])
    ends = {".lora_A.weight": "down", ".lora_B.weight": "up", ".lora_magnitude_vector": "magnitude"}
    found: dict[str, Tensors] = {}
    with safe_open(folder / ADAPTER / "adapter_model.safetensors", framework="pt", device=str(device)) as stream:
        for name in stream.keys():  # noqa: SIM118
            for end, part in ends.items():
                if name.endswith(end):
                    stem = name.removeprefix(BEFORE).removesuffix(end)
                    found.setdefault(stem, {"scaling": scaling})[part] = stream.get_tensor(name)
    return found


def merged(weight: torch.Tensor, low: Tensors) -> torch.Tensor:
    """The weight with its adapter in it, float32: W + scaling * up * down; of DoRA each row at its magnitude."""
    summed = weight.float() + low["scaling"].item() * (low["up"].float() @ low["down"].float())
    if "magnitude" not in low:
        return summed
    return summed * (low["magnitude"].float() / summed.norm(dim=1))[:, None]


def _json(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found
