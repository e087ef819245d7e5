"""Which models can't be compressed, told from config.json and the tensor table alone, before anything is done."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from search_spaces.errors import CandidateError
from search_spaces.sizes.tensor_table import Checkpoint, text_config

# How configs spell the number of a mixture's experts; 0 or 1 is a dense model of a family that has mixtures.
EXPERTS = (
    "num_experts",
    "num_local_experts",
    "n_routed_experts",
    "num_routed_experts",
    "moe_num_experts",
    "n_experts",
    "num_moe_experts",
    "moe_num_primary_router_experts",
)
_EXPERT = re.compile(r"\blayers\.\d+\..*\b(experts?|shared_experts?|block_sparse_moe|moe|router)\.")
# What quantized models store beside or instead of a weight, whoever made them.
_QUANTIZED = re.compile(
    r"\.(weight_packed|weight_scale|weight_scale_inv|weight_scale_2|qweight|qzeros|scales|SCB|absmax|blocks"
    r"|(gate_up|down)_proj_(blocks|scales))$"
)
_FLOATS = frozenset({"BF16", "F16", "F32", "F64"})
# Parts of config.json that describe what reads pictures or sound.
TOWERS = ("vision_config", "audio_config", "video_config", "speech_config", "vision_tower_config", "mm_vision_tower")


def refuse_uncompressible(base: Checkpoint) -> None:
    """Raise CandidateError, with the way out, for a model that no method can compress: a quantized or sparse one, a
    mixture of experts, one that reads more than text, one whose layers are not those of its config."""
    if reason := why_not_by_config(base.config) or why_not_by_tensors(base):
        raise CandidateError(reason)


def why_not_by_config(config: Mapping[str, Any]) -> str | None:
    """Why a model with this config.json can't be compressed; None when the config does not say so."""
    text = text_config(config)
    for part in (config, text):
        for key in ("quantization_config", "compression_config", "quantization"):
            if part.get(key):
                return (
                    f"the model's config.json has a {key}: it is quantized already, and can't be compressed further; "
                    "name the model it was made from"
                )
    for key in EXPERTS:
        count = text.get(key)
        if (max(count, default=0) if isinstance(count, list) else count or 0) > 1:
            return _mixture(f"config.json says {key}: {count}")
    if towers := [key for key in TOWERS if config.get(key)]:
        kind = f"{config.get('model_type')}, with {towers[0]}"
        return (
            f"the model reads more than text ({kind}), and its text model is not one that is known here. Save that as "
            "a model of its own once (a …ForCausalLM with the config's text_config, by save_pretrained), and name "
            "that folder"
        )
    return None


def why_not_by_tensors(base: Checkpoint) -> str | None:
    """Why a model with these tensors can't be compressed; None when they don't say so."""
    names = base.tensors
    if any(name.endswith(".weight_mask") for name in names):
        return (
            "the model's weights are stored sparse (….weight_mask): it is compressed already; name the model it was "
            "made from"
        )
    if found := next((name for name in names if _QUANTIZED.search(name)), None):
        return _quantized(found)
    if found := next((name for name, tensor in base.targets().items() if tensor.dtype not in _FLOATS), None):
        return _quantized(f"{found} as {names[found].dtype}")
    if found := next((name for name in names if _EXPERT.search(name)), None):
        return _mixture(f"it has {found}")
    deep = text_config(base.config).get("num_hidden_layers")
    if isinstance(deep, int) and base.layers and deep != base.layers:
        return (
            f"config.json says num_hidden_layers: {deep}, and the weights are of {base.layers} layers; the two are not "
            "of one model: fetch it again, or put right what is wrong"
        )
    return None


def _quantized(found: str) -> str:
    return (
        f"the model has the tensor {found}: it is quantized already, and can't be compressed further; name the model "
        "it was made from"
    )


def _mixture(found: str) -> str:
    return (
        f"the model is a mixture of experts ({found}), which is not compressed here: routers must stay as they are, "
        "and experts are stored and reached otherwise than linear layers. Name a dense model. `main.py` without "
        "compression measures this one as it is"
    )
