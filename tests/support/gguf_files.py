"""GGUF files of Llama models, written with the package `gguf` as llama.cpp's converter writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.torch import load_file

Type = gguf.GGMLQuantizationType


def q8_and_f16(name: str) -> Type:
    """Layers in Q8_0 and the embeddings in F16."""
    return Type.F16 if name == "token_embd.weight" else Type.Q8_0


def write_gguf(
    folder: Path,
    out: Path,
    type_of: Callable[[str], Type] = q8_and_f16,
    head: Type | None = None,
    metadata: Mapping[str, Any] | None = None,
    left_out: tuple[str, ...] = (),
    more: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Write the Llama model of a folder with a byte-level tokenizer; returns each tensor as the file stands for it, by
    GGUF's name, before llama.cpp's order of rotary rows.

    head: the type of a second copy of tied embeddings. metadata: further strings, numbers and truths. more:
    tensors of other names.
    """
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    vocabulary = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    special = {token["content"] for token in tokenizer["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if token in special else 1 for token in vocabulary])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(True)
    for key, value in (metadata or {}).items():
        add = {bool: writer.add_bool, str: writer.add_string, int: writer.add_uint32}[type(value)]
        add(key, value)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    found: dict[str, np.ndarray] = {}

    def add_tensor(name: str, weight: np.ndarray, kind: Type) -> None:
        stored = gguf.quantize(weight, kind)
        values = gguf.dequantize(stored, kind).reshape(weight.shape)
        part = name.split(".")[-2]
        if part in heads:
            stored, kept = _rotary(stored, heads[part]), values
        else:
            kept = values
        found[name] = kept
        writer.add_tensor(name, np.ascontiguousarray(stored), raw_dtype=kind)

    for name, tensor in load_file(folder / "model.safetensors").items():
        stem = names.get_name(name, try_suffixes=(".weight",))
        assert stem is not None
        if stem not in left_out:
            weight = tensor.float().numpy()
            add_tensor(stem, weight, Type.F32 if weight.ndim == 1 else type_of(stem))
            if stem == "token_embd.weight" and head is not None:
                add_tensor("output.weight", weight, head)
    for name, values in (more or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return found


def _rotary(stored: np.ndarray, heads: int) -> np.ndarray:
    """Rows in the order of llama.cpp's rotary positions: the two halves of a head by turns."""
    rows = stored.shape[0]
    return stored.reshape(heads, 2, rows // heads // 2, *stored.shape[1:]).swapaxes(1, 2).reshape(stored.shape)
