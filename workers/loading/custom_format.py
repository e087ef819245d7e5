"""Loading the folders that transformers can't load by itself: those with sparse weights or quantized embeddings, and
those with an adapter to merge.

Their weights are decoded to dense ones and handed to transformers as a state dict. Layers that are not run as dense
weights (those of bitsandbytes, and those whose inputs are quantized as they come) go to transformers as they are
stored; only what it can't read is decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from search_spaces.errors import ModelFilesError
from search_spaces.sizes.tensor_table import is_embedding, is_leftover
from workers.checkpoints.adapters import LowRank
from workers.checkpoints.model_files import read_checkpoint, read_config, weight_files
from workers.loading.spread import skeleton
from workers.stored_forms.checkpoint import OWN, dense_tensors, every_weight, packed_stems
from workers.stored_forms.quantization_config import without_embeddings

GENERATION_CONFIG = "generation_config.json"


def is_own(folder: Path) -> bool:
    """Whether the folder's weights are in `packed…` files, which plain transformers refuses."""
    return all(file.name.startswith(OWN) for file in weight_files(folder))


def load_own(
    folder: Path,
    dtype: torch.dtype,
    device_map: Any,
    waits_at: Callable[[str], torch.device],
    decode_on: torch.device,
    trust_remote_code: bool = False,
    adapters: Mapping[str, LowRank] | None = None,
) -> Any:
    """The model that such a folder stands for, in eval mode.

    dtype: of the decoded weights; integers × scales are worked out in float32 and rounded to it once. waits_at: tensor
    name -> where device_map puts it, where it is until transformers takes it. decode_on: the device for that
    arithmetic. adapters: stem -> the adapter that is merged into its weight, on that device. Raises ModelFilesError
    when the weights found are not exactly those of the model's architecture.
    """
    from transformers import AutoConfig, GenerationConfig

    quantization = read_config(folder).get("quantization_config", {})
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    if quantization:
        del config.quantization_config
    architecture = type(skeleton(folder, dtype, trust_remote_code))
    decoded = every_weight
    if runs_quantized(quantization):
        config.quantization_config = without_embeddings(quantization)
        decoded = is_embedding
    model, found = architecture.from_pretrained(
        None,
        config=config,
        state_dict=dict(_state(folder, dtype, decode_on, decoded, adapters or {}, waits_at)),
        dtype=dtype,
        device_map=device_map,
        output_loading_info=True,
    )
    refuse_incomplete(folder, found["missing_keys"], found["unexpected_keys"])
    if (folder / GENERATION_CONFIG).is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    model.config.name_or_path = str(folder)
    return model.eval()


def refuse_incomplete(folder: Path, missing: Any, unexpected: Any = ()) -> None:
    """Raise ModelFilesError for weights that the architecture needs and the folder lacks, or the other way round."""
    more = [name for name in unexpected if not is_leftover(name)]
    for names, what in ((missing, "lacks"), (more, "holds more than its architecture has:")):
        if names:
            said = ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise ModelFilesError(f"{folder} {what} {said}; its weights and its config.json are not of one model")


def runs_quantized(quantization: Mapping[str, Any]) -> bool:
    """Whether the layers have to stay as they are stored, because they are not run as dense weights.

    quantization: the `quantization_config` of config.json; empty where it has none.
    """
    groups = quantization.get("config_groups", {}).values()
    return quantization.get("quant_method") == "bitsandbytes" or any(group.get("input_activations") for group in groups)


def _state(
    folder: Path,
    dtype: torch.dtype,
    device: torch.device,
    decoded: Callable[[str], bool],
    adapters: Mapping[str, LowRank],
    waits_at: Callable[[str], torch.device],
) -> Iterator[tuple[str, torch.Tensor]]:
    packed = {f"{stem}.weight" for stem in packed_stems(read_checkpoint(folder).tensors)}
    left = set(adapters)
    for name, tensor, _ in dense_tensors(folder, device, decoded):
        stem = name.removesuffix(".weight")
        if stem in adapters:
            left.remove(stem)
            tensor = adapters[stem].merged(tensor)
        cast = stem in adapters or (name in packed and decoded(name))
        yield name, (tensor.to(dtype) if cast else tensor).to(waits_at(name))
    if left:
        raise ModelFilesError(f"{folder} has an adapter for {min(left)}, and no weight of that name")
