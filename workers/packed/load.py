"""Loading a model with its weights kept packed: a skeleton without memory, filled tensor by tensor from its files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from search_spaces.errors import UserError
from search_spaces.methods.timable import APART, SPARSE, TWO_LOADERS
from search_spaces.sizes.tensor_table import is_embedding
from workers.checkpoints.adapters import has_adapter
from workers.checkpoints.model_files import read_checkpoint, read_config
from workers.loading.custom_format import is_own, refuse_incomplete
from workers.loading.load import CPU_DTYPE, CUDA_DTYPE, default_device, load_model, with_soft_caps
from workers.loading.spread import Placement, placement_of, with_moves
from workers.packed.eight_bit import EightBitLinear, why_not
from workers.packed.held import assert_packed, stored_sizes
from workers.packed.linear import PackedEmbedding, PackedLinear
from workers.packed.weight import packed_weight
from workers.stored_forms.checkpoint import packed_stems, stored_tensors
from workers.stored_forms.quantization_config import bits_of

MASK = "weight_mask"

# (stem, the stored parts of its weight, the model so far) -> the module that holds the weight.
Make = Callable[[str, dict[str, torch.Tensor], Any], nn.Module]


class NotPackedError(UserError):
    """A model that can't be run with its weights kept packed, and why."""


def why_not_packed(folder: Path) -> str | None:
    """Why the folder's weights can't be kept packed in memory while it runs; None when they can, or are dense."""
    quantization = read_config(folder).get("quantization_config", {})
    parts = packed_stems(read_checkpoint(folder).tensors)
    if any(MASK in names for names in parts.values()):
        return SPARSE
    if has_adapter(folder):
        return APART
    if quantization.get("quant_method") == "bitsandbytes" and is_own(folder):
        return TWO_LOADERS
    return None


def packed_placement(folder: Path, asked: str) -> Placement:
    """Where the folder's model goes with its weights as they are stored. asked: as `placement_for` takes it."""
    return placement_of(asked, default_device(), lambda: stored_sizes(folder, CUDA_DTYPE))


def load_packed(folder: Path, where: torch.device | Placement, trust_remote_code: bool = False) -> Any:
    """The model in eval mode, its weights as they are stored; bfloat16 elsewhere on a GPU, float32 on a CPU.

    A dense folder and one of bitsandbytes load as `load_model` has them. Raises NotPackedError for a folder that can't
    be kept packed or whose bytes on the device show that it was not, ModelFilesError when weights are missing.
    """
    reason = why_not_packed(folder)
    if reason is not None:
        raise NotPackedError(f"{folder} can't be run packed: {reason}")
    placement = where if isinstance(where, Placement) else Placement(where)
    if not _is_packed(folder):
        model = load_model(folder, placement, trust_remote_code)
    else:
        model = with_moves(with_soft_caps(_filled(folder, placement, trust_remote_code)), placement)
    assert_packed(model, folder)
    return model


def _is_packed(folder: Path) -> bool:
    """Whether some weight is stored in a form of compressed-tensors."""
    config = read_config(folder).get("quantization_config", {})
    return config.get("quant_method") == "compressed-tensors" and bool(packed_stems(read_checkpoint(folder).tensors))


def _filled(folder: Path, placement: Placement, trust_remote_code: bool) -> Any:
    dtype = CUDA_DTYPE if placement.home.type == "cuda" else CPU_DTYPE
    config = read_config(folder)
    with_inputs = _with_inputs(config)

    def make(stem: str, stored: dict[str, torch.Tensor], model: Any) -> Any:
        return _module(stem, stored, bits=bits_of(stem, config), model=model, dtype=dtype, with_inputs=with_inputs)

    tensors = stored_tensors(folder, torch.device("cpu") if placement.is_spread else placement.home)
    return fill_model(
        folder,
        ((name, tensor.to(placement.of(name))) for name, tensor in tensors),
        make=make,
        device=placement,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
    )


def fill_model(
    folder: Path,
    tensors: Iterable[tuple[str, torch.Tensor]],
    make: Make | None,
    device: torch.device | Placement,
    dtype: torch.dtype,
    trust_remote_code: bool = False,
) -> Any:
    """The architecture of the folder's config.json with these tensors for weights, in eval mode.

    tensors: where they stay; those that are a whole weight are cast to dtype. make: the module for a weight that comes
    in the parts it is stored in; a bias beside it becomes the module's buffer; None where every weight comes whole.
    Raises ModelFilesError when the tensors are not exactly those of the architecture.
    """
    model = _skeleton(folder, dtype, trust_remote_code)
    parts = packed_stems(read_checkpoint(folder).tensors) if make is not None else {}
    waiting: dict[str, dict[str, torch.Tensor]] = {}
    biases: dict[str, torch.Tensor] = {}
    made: set[str] = set()
    unknown: list[str] = []
    for name, tensor in tensors:
        stem, _, part = name.rpartition(".")
        if part in parts.get(stem, ()):
            found = waiting.setdefault(stem, {})
            found[part] = tensor
            if make is not None and found.keys() == parts[stem]:
                module = make(stem, waiting.pop(stem), model)
                if stem in biases:
                    module.bias = biases.pop(stem)
                model.set_submodule(stem, module)
                made.add(stem)
        elif part == "bias" and stem in parts:
            if stem in made:
                model.get_submodule(stem).bias = tensor.to(dtype)
            else:
                biases[stem] = tensor.to(dtype)
        elif not _set(model, stem, part, tensor.to(dtype)):
            unknown.append(name)
    _tie(model)
    missing = [name for name, value in model.named_parameters() if value.is_meta]
    refuse_incomplete(folder, missing, unknown)
    placement = device if isinstance(device, Placement) else Placement(device)
    for stem, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.device != (at := placement.of(f"{stem}.{name}")):
                setattr(module, name, buffer.to(at))
    model.config.name_or_path = str(folder)
    return model.eval()


def _skeleton(folder: Path, dtype: torch.dtype, trust_remote_code: bool) -> Any:
    """The architecture with its parameters on no device; buffers that are worked out, such as rotary ones, are real."""
    from accelerate import init_empty_weights  # type: ignore[import-untyped]
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=trust_remote_code)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model


def _module(
    stem: str, stored: dict[str, torch.Tensor], bits: int | None, model: Any, dtype: torch.dtype, with_inputs: bool
) -> Any:
    if with_inputs and not is_embedding(f"{stem}.weight"):
        weight = stored["weight"]
        reason = why_not(weight.shape[0], weight.shape[1], weight.dtype)
        if reason is not None:
            raise NotPackedError(f"{stem}: {reason}")
        return EightBitLinear(weight, stored["weight_scale"])
    weight = packed_weight(stored, bits)
    if isinstance(model.get_submodule(stem), nn.Embedding):
        factor = getattr(model.get_submodule(stem), "scalar_embed_scale", None)
        return PackedEmbedding(weight, dtype, factor)
    return PackedLinear(weight)


def _with_inputs(config: dict[str, Any]) -> bool:
    groups = config["quantization_config"].get("config_groups", {}).values()
    return any(group.get("input_activations") for group in groups)


def _set(model: Any, stem: str, part: str, tensor: torch.Tensor) -> bool:
    """Give a parameter or buffer its value; False where the model has none of this name."""
    try:
        owner = model.get_submodule(stem)
    except AttributeError:
        return False
    if part in owner._parameters:
        owner._parameters[part] = nn.Parameter(tensor, requires_grad=False)
    elif part in owner._buffers:
        owner._buffers[part] = tensor
    else:
        return False
    return True


def _tie(model: Any) -> None:
    """A head that has no weight of its own takes the embeddings', packed or not."""
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if not model.config.get_text_config().tie_word_embeddings or isinstance(head, PackedLinear):
        return
    if isinstance(embeddings, PackedEmbedding):
        model.set_output_embeddings(PackedLinear(embeddings.stored))
    else:
        head.weight = embeddings.weight
