"""The low-rank adapter that a model's folder may keep apart, in `adapter/`: writing it as peft reads it, reading it,
and merging it into the weights it belongs to.

Names, shapes and config are peft's (https://huggingface.co/docs/peft, "PEFT checkpoint format"), which itself is not
needed here: importing it takes many seconds, and a trial only scores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_spaces.errors import ModelFilesError

if TYPE_CHECKING:
    import torch

ADAPTER = "adapter"
ADAPTER_WEIGHTS = f"{ADAPTER}/adapter_model.safetensors"
ADAPTER_CONFIG = f"{ADAPTER}/adapter_config.json"
ADAPTER_FILES = (ADAPTER_WEIGHTS, ADAPTER_CONFIG)
# Where peft writes one that is kept without its base.
ROOT_ADAPTER_WEIGHTS, ROOT_ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
# What peft puts before a weight's stem, and behind it.
BEFORE = "base_model.model."
DOWN, UP, MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"


@dataclass(frozen=True, slots=True)
class LowRank:
    """One weight's adapter. down: (rank, columns). up: (rows, rank). scaling: of their product. magnitude: (rows,), the
    length that each row of the sum is brought to (DoRA), or None."""

    down: torch.Tensor
    up: torch.Tensor
    scaling: float
    magnitude: torch.Tensor | None = None

    def merged(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight (rows, columns) with the adapter in it, worked out and returned in float32.

        LoRA: W + scaling · up · down (https://arxiv.org/abs/2106.09685 §4.1). DoRA: that, each row at the length
        `magnitude` (https://arxiv.org/abs/2402.09353 §4.1).
        """
        summed = weight.float() + self.scaling * (self.up.float() @ self.down.float())
        if self.magnitude is None:
            return summed
        return summed * (self.magnitude.float() / summed.norm(dim=1))[:, None]

    def to(self, device: torch.device) -> LowRank:
        """The adapter on that device."""
        magnitude = None if self.magnitude is None else self.magnitude.to(device)
        return LowRank(self.down.to(device), self.up.to(device), self.scaling, magnitude)


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """What peft has to know of an adapter."""

    rank: int
    """Rank of the low-rank update."""
    alpha: float
    """Scale of the update, as peft's lora_alpha."""
    dropout: float
    """Dropout in the training."""
    dora: bool
    """Whether it is DoRA."""
    modules: tuple[str, ...]
    """Names of the modules that have an adapter."""


def has_adapter(folder: Path) -> bool:
    """Whether the folder keeps an adapter apart."""
    return (folder / ADAPTER_WEIGHTS).is_file()


def write_adapter(out: Path, weights: Mapping[str, LowRank], settings: AdapterSettings) -> None:
    """Write `adapter/` beside the model's files, in bfloat16.

    weights: stem, such as `model.layers.0.mlp.up_proj` -> its adapter.
    """
    import torch
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    for stem, low in weights.items():
        parts = {DOWN: low.down, UP: low.up, MAGNITUDE: low.magnitude}
        tensors.update({f"{BEFORE}{stem}{end}": part for end, part in parts.items() if part is not None})
    (out / ADAPTER).mkdir()
    stored = {name: tensor.detach().to(torch.bfloat16).cpu().contiguous() for name, tensor in tensors.items()}
    save_file(stored, out / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    record = {
        "base_model_name_or_path": "",
        "bias": "none",
        "inference_mode": True,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "peft_type": "LORA",
        "r": settings.rank,
        "target_modules": list(settings.modules),
        "task_type": "CAUSAL_LM",
        "use_dora": settings.dora,
    }
    (out / ADAPTER_CONFIG).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_adapter(folder: Path, device: torch.device | None = None) -> dict[str, LowRank]:
    """Stem -> adapter, of a folder that keeps one apart; {} for any other. Raises ModelFilesError for one that is no
    LoRA or DoRA of one rank, as this project writes it."""
    from safetensors import safe_open

    if not has_adapter(folder):
        return {}
    config = _config(folder)
    with safe_open(folder / ADAPTER_WEIGHTS, framework="pt", device=str(device or "cpu")) as stream:
        tensors = {name.removeprefix(BEFORE): stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    found: dict[str, LowRank] = {}
    for name in [name for name in tensors if name.endswith(DOWN)]:
        stem = name.removesuffix(DOWN)
        needed = [stem + end for end in (UP, MAGNITUDE)[: 1 + bool(config["use_dora"])]]
        if missing := [part for part in needed if part not in tensors]:
            raise ModelFilesError(f"{folder / ADAPTER_WEIGHTS} lacks {missing[0]}; its config is another adapter's")
        down, up = tensors.pop(name), tensors.pop(stem + UP)
        magnitude = tensors.pop(stem + MAGNITUDE) if config["use_dora"] else None
        found[stem] = LowRank(down, up, config["lora_alpha"] / config["r"], magnitude)
    if tensors:
        raise ModelFilesError(f"{folder / ADAPTER_WEIGHTS} holds {next(iter(tensors))}, which no LoRA or DoRA has")
    return found


def _config(folder: Path) -> dict[str, Any]:
    file = folder / ADAPTER_CONFIG
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFilesError(f"{file} can't be read as JSON: {error}; an adapter needs it") from error
    odd = [key for key in ("use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save") if config.get(key)]
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or odd:
        said = odd[0] if odd else f"peft_type {config.get('peft_type')!r}, bias {config.get('bias')!r}"
        raise ModelFilesError(f"{file} sets {said}; only plain LoRA and DoRA are read. Merge it with peft first")
    return {"use_dora": False, **config}
