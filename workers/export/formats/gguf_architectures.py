"""What GGUF calls a model's architecture, and its metadata; and what of a model GGUF can't say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from search_spaces.errors import StudyError

HEAD = "lm_head.weight"


@dataclass(frozen=True, slots=True)
class Architecture:
    """A family of models."""

    name: str
    """What GGUF calls it."""
    rotary_rows: bool = False
    """Whether llama.cpp has the rows of queries and keys by turns from a head's two halves."""
    shifted_norms: bool = False
    """Whether norms are stored with 1 added."""
    more: Callable[[Any, dict[str, Any]], None] = lambda writer, config: None
    """Writes what the family alone has."""


def _gemma2(writer: Any, config: dict[str, Any]) -> None:
    writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
    writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    writer.add_sliding_window(config["sliding_window"])


def _gemma3(writer: Any, config: dict[str, Any]) -> None:
    writer.add_sliding_window(config["sliding_window"])


# Of the families whose layers see a window alone: each so-manieth sees everything, in llama.cpp.
FULL_EVERY = {"gemma2": 2, "gemma3_text": 6}
# `model_type` -> the architecture.
ARCHITECTURES = {
    "llama": Architecture("llama", rotary_rows=True),
    "mistral": Architecture("llama", rotary_rows=True),
    "qwen2": Architecture("qwen2"),
    "qwen3": Architecture("qwen3"),
    "gemma": Architecture("gemma", shifted_norms=True),
    "gemma2": Architecture("gemma2", shifted_norms=True, more=_gemma2),
    "gemma3_text": Architecture("gemma3", shifted_norms=True, more=_gemma3),
}


def architecture_of(config: dict[str, Any]) -> Architecture:
    """The model's; raises StudyError for one that is not written as GGUF here, or of which GGUF can't say all."""
    kind = str(config.get("model_type"))
    if kind not in ARCHITECTURES:
        raise StudyError(f"{kind} models are not written as GGUF here: {', '.join(ARCHITECTURES)} are")
    rotary = rope_of(config)
    if rotary.get("rope_type", "default") not in ("default", "llama3", "linear"):
        raise StudyError(
            f"the model's rotary positions are of the type {rotary['rope_type']!r}, which is not written as GGUF here; "
            "--format merged-bf16 keeps them"
        )
    if kind == "gemma2" and not (config.get("attn_logit_softcapping") and config.get("final_logit_softcapping")):
        raise StudyError("llama.cpp bounds the scores of every Gemma 2, and this one's config.json does not")
    if kind.startswith("gemma"):
        _refuse_other_gemma(kind, config)
    return ARCHITECTURES[kind]


def _refuse_other_gemma(kind: str, config: dict[str, Any]) -> None:
    """Raise StudyError where llama.cpp takes something else for granted than config.json says."""
    size = config["head_dim"]
    if config.get("query_pre_attn_scalar", size) != size:
        raise StudyError(
            f"the model divides scores by the root of {config['query_pre_attn_scalar']} (query_pre_attn_scalar), and "
            f"llama.cpp by that of a head's {size}; --format merged-bf16 keeps it"
        )
    every = FULL_EVERY.get(kind)
    kinds = config.get("layer_types")
    if every is None or not kinds or config["sliding_window"] >= config["max_position_embeddings"]:
        return
    usual = ["full_attention" if (layer + 1) % every == 0 else "sliding_attention" for layer in range(len(kinds))]
    if kinds != usual:
        raise StudyError(
            f"in llama.cpp all layers of {kind} but each {every}th see a window alone, which is not so in this model; "
            "--format merged-bf16 keeps its layers as they are"
        )


def rope_of(config: dict[str, Any]) -> dict[str, Any]:
    """The rotary settings of layers that see everything, in transformers' present form or the one before 5."""
    found = config.get("rope_parameters") or config.get("rope_scaling") or {}
    found = found.get("full_attention", found)
    kind = found.get("rope_type", found.get("type", "default"))
    return {"rope_theta": config.get("rope_theta", 10000.0), **found, "rope_type": kind}


def write_shape(writer: Any, architecture: Architecture, config: dict[str, Any], layers: int) -> list[str]:
    """Write the metadata of the model's shape; returns what of it GGUF can't say. layers: that the model has."""
    notes: list[str] = []
    heads = config["num_attention_heads"]
    head_size = config.get("head_dim") or config["hidden_size"] // heads
    context = config["max_position_embeddings"]
    window = config.get("sliding_window")
    if (config["model_type"] == "mistral" or config.get("use_sliding_window")) and window and window < context:
        notes.append(
            f"llama.cpp knows no window of {window:,} positions for this family: the context is {window:,} tokens, "
            "within which it makes no difference"
        )
        context = window
    writer.add_block_count(layers)
    writer.add_context_length(context)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    if architecture.rotary_rows:
        writer.add_rope_dimension_count(head_size)
    rotary = rope_of(config)
    writer.add_rope_freq_base(float(rotary["rope_theta"]))
    if rotary["rope_type"] == "linear":
        from gguf import RopeScalingType

        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rotary["factor"]))
    architecture.more(writer, config)
    return notes
