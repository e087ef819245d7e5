"""A LoRA adapter that stands for a model: the folder that peft writes, with the base that it names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_spaces.errors import ModelFilesError
from search_spaces.sizes.plain_model import Conversion, plain_name
from workers.checkpoints.adapters import BEFORE, DOWN, MAGNITUDE, ROOT_ADAPTER_CONFIG, ROOT_ADAPTER_WEIGHTS, UP, LowRank
from workers.checkpoints.locate import locate_model
from workers.checkpoints.model_files import TOKENIZER_FILES, read_header

if TYPE_CHECKING:
    import torch

PARTS = (DOWN, UP, MAGNITUDE)
PEFT_WAY = "merge it with peft (merge_and_unload, save_pretrained) and name that folder"
# Adapters that begin at other weights than the base's, or that are no low-rank sums.
UNKNOWN = ("layer_replication", "fan_in_fan_out", "megatron_config", "trainable_token_indices", "target_parameters")
BEGINNINGS = (None, True, False, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True, slots=True)
class RootAdapter:
    """folder: the adapter's. config: its adapter_config.json. shapes: name in the file -> shape."""

    folder: Path
    config: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def onto(self) -> str:
        """The model that it belongs to: a folder or hub id."""
        return str(self.config["base_model_name_or_path"])

    def files(self) -> list[Path]:
        """All that it adds to its base."""
        return [self.folder / ROOT_ADAPTER_CONFIG, self.folder / ROOT_ADAPTER_WEIGHTS, *self.tokenizer_files()]

    def tokenizer_files(self) -> list[Path]:
        """Its tokenizer's files; none where it has no whole tokenizer."""
        found = [self.folder / name for name in TOKENIZER_FILES if (self.folder / name).is_file()]
        return found if any(file.name in ("tokenizer.json", "tokenizer.model") for file in found) else []

    def base(self, revision: str | None, look: Callable[[Path], None]) -> tuple[Path, str | None]:
        """The folder of the model that it belongs to, and the hub's commit, None for a local one. revision: of the hub,
        else the one that it names."""
        beside = (self.folder / self.onto).resolve()
        name = str(beside) if beside.is_dir() else self.onto
        if not Path(name).is_absolute() and Path(name).is_dir():
            raise ModelFilesError(
                f"{self.folder} is an adapter for {self.onto}, a relative path that workers can't find; write its full "
                f"path into base_model_name_or_path of {ROOT_ADAPTER_CONFIG}"
            )
        if revision is None and not Path(name).is_dir():
            revision = self.config.get("revision")
        try:
            return locate_model(name, revision, look)
        except ModelFilesError as error:
            raise ModelFilesError(
                f"{self.folder} is an adapter for {self.onto}, which can't be loaded: {error}. Put a folder or hub "
                f"id that can be loaded into base_model_name_or_path of {ROOT_ADAPTER_CONFIG}, or {PEFT_WAY}"
            ) from error

    def stems(self, kind: object) -> dict[str, str]:
        """Plain stem of each weight that it changes -> its stem in the file. kind: the base's `model_type`. Adapters of
        what reads pictures are left out."""
        found = {name.removesuffix(DOWN) for name in self.shapes if name.endswith(DOWN)}
        named = ((plain_name(f"{stem.removeprefix(BEFORE)}.weight", kind), stem) for stem in found)
        return {plain.removesuffix(".weight"): stem for plain, stem in named if plain is not None}

    def wholes(self, kind: object) -> dict[str, str]:
        """Plain name of each weight that it replaces -> its name in the file."""
        found = [name for name in self.shapes if not name.endswith(PARTS)]
        named = ((plain_name(name.removeprefix(BEFORE), kind), name) for name in found)
        return {plain: name for plain, name in named if plain is not None}

    def refuse_strange(self, made: Conversion, kind: object) -> None:
        """Raise ModelFilesError for an adapter that is not of these weights. kind: the base's `model_type`."""
        for stem, file_stem in self.stems(kind).items():
            weight = made.tensors.get(f"{stem}.weight")
            down, up = self.shapes[file_stem + DOWN], self.shapes.get(file_stem + UP)
            if weight is None or up is None or weight.shape != (up[0], down[1]):
                held = "no such weight" if weight is None else f"{weight.shape} there"
                raise ModelFilesError(
                    f"{self.folder} has an adapter for {file_stem}, and {self.onto} has {held}; it is another model's"
                )
        for plain, name in self.wholes(kind).items():
            weight = made.tensors.get(plain)
            if weight is None or weight.shape != self.shapes[name]:
                raise ModelFilesError(
                    f"{self.folder} holds {name} of shape {self.shapes[name]}, which {self.onto} has no weight for; "
                    f"{PEFT_WAY}"
                )

    def weights(self, kind: object) -> tuple[dict[str, LowRank], dict[str, torch.Tensor]]:
        """Plain stem -> its adapter, and plain name -> the weight that stands in its place."""
        from safetensors import safe_open

        with safe_open(self.folder / ROOT_ADAPTER_WEIGHTS, framework="pt") as stream:

            def low_rank(stem: str) -> LowRank:
                down, up = stream.get_tensor(stem + DOWN), stream.get_tensor(stem + UP)
                magnitude = stream.get_tensor(stem + MAGNITUDE) if stem + MAGNITUDE in self.shapes else None
                return LowRank(down, up, self.scaling(stem.removeprefix(BEFORE), down.shape[0]), magnitude)

            low = {plain: low_rank(stem) for plain, stem in self.stems(kind).items()}
            return low, {plain: stream.get_tensor(name) for plain, name in self.wholes(kind).items()}

    def scaling(self, module: str, rank: int) -> float:
        """The factor of a module's product, as peft finds it: alpha / rank, or alpha / √rank (rsLoRA,
        https://arxiv.org/abs/2312.03732); `alpha_pattern` goes before `lora_alpha`."""
        patterns: Mapping[str, float] = self.config.get("alpha_pattern") or {}
        matching = (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module))
        alpha = float(next(matching, self.config.get("lora_alpha", 8)))
        return alpha / (rank**0.5 if self.config.get("use_rslora") else rank)


def read_root_adapter(folder: Path) -> RootAdapter:
    """The adapter in a folder's root, its headers only. Raises ModelFilesError for one that can't be merged here."""
    file = folder / ROOT_ADAPTER_CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        onto = config.get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelFilesError(f"{file} can't be read as a JSON object: {error}") from error
    odd = [key for key in UNKNOWN if config.get(key)]
    if config.get("init_lora_weights", True) not in BEGINNINGS:
        odd.append(f"init_lora_weights: {config['init_lora_weights']}")
    if config.get("peft_type") != "LORA" or odd:
        said = odd[0] if odd else f"peft_type {config.get('peft_type')}"
        raise ModelFilesError(f"{file} sets {said}; only LoRA and DoRA are merged here: {PEFT_WAY}")
    if not onto:
        raise ModelFilesError(
            f"{file} names no base_model_name_or_path; put the folder or hub id of the model that the adapter was "
            "trained on there"
        )
    weights = folder / ROOT_ADAPTER_WEIGHTS
    if not weights.is_file():
        pickles = any(folder.glob("adapter_model.bin*"))
        pickled = " but as a pickle, which is never loaded" if pickles else ""
        raise ModelFilesError(
            f"{folder} is an adapter for {onto} and lacks {ROOT_ADAPTER_WEIGHTS}{pickled}; load it with peft on "
            f"{onto}, merge it (merge_and_unload, save_pretrained), and name that folder"
        )
    shapes = {name: tuple(entry["shape"]) for name, entry in read_header(weights)[0].items()}
    return RootAdapter(folder, config, shapes)
