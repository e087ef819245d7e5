"""Folders of published models without their weights: config.json, headers of the right shapes over holes, and a small
tokenizer with the family's chat template. What is decided from headers is decided on them as on the real ones."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from tests.support.trained_tokenizers import byte_level

SHARD = 5_000_000_000
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA_TURNS = (
    "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + message['role'] + '\n' + "
    "message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder's shape. inside: what its tensors' names begin with, where it lies in a larger model."""

    hidden: int
    ffn: int
    layers: int
    heads: int
    groups: int
    vocabulary: int
    width: int = 128
    tied: bool = False
    bias: bool = False
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    head_norms: tuple[str, ...] = ()
    inside: str = ""

    def tensors(self) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {f"{self.inside}model.embed_tokens.weight": (self.vocabulary, self.hidden)}
        outputs = {"q": self.heads * self.width, "k": self.groups * self.width, "v": self.groups * self.width}
        for layer in range(self.layers):
            stem = f"{self.inside}model.layers.{layer}"
            for name, rows in outputs.items():
                found[f"{stem}.self_attn.{name}_proj.weight"] = (rows, self.hidden)
                if self.bias:
                    found[f"{stem}.self_attn.{name}_proj.bias"] = (rows,)
            found[f"{stem}.self_attn.o_proj.weight"] = (self.hidden, outputs["q"])
            found |= {f"{stem}.self_attn.{name}.weight": (self.width,) for name in self.head_norms}
            found |= {f"{stem}.mlp.{name}_proj.weight": (self.ffn, self.hidden) for name in ("gate", "up")}
            found[f"{stem}.mlp.down_proj.weight"] = (self.hidden, self.ffn)
            found |= {f"{stem}.{name}.weight": (self.hidden,) for name in self.norms}
        found[f"{self.inside}model.norm.weight"] = (self.hidden,)
        return found if self.tied else found | {f"{self.inside}lm_head.weight": (self.vocabulary, self.hidden)}


@dataclass(frozen=True, slots=True)
class Published:
    """A model of the hub. config: its config.json. beside: tensors that are not the text model's."""

    shape: Shape
    config: Mapping[str, Any]
    template: str | None
    dtype: str = "BF16"
    beside: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """A folder as the hub's, whose weights are holes of the file system."""
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(self.config), encoding="utf-8")
        _write_weights(folder, {**self.beside, **self.shape.tensors()}, self.dtype)
        tokenizer = byte_level()
        tokenizer.chat_template = self.template
        tokenizer.save_pretrained(folder)
        return folder


def _write_weights(folder: Path, tensors: Mapping[str, tuple[int, ...]], dtype: str) -> None:
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    for name, shape in tensors.items():
        if 2 * sum(map(prod, shards[-1].values())) + 2 * prod(shape) > SHARD:
            shards.append({})
        shards[-1][name] = shape
    names = ["model.safetensors"]
    if len(shards) > 1:
        names = [f"model-{at:05d}-of-{len(shards):05d}.safetensors" for at in range(1, len(shards) + 1)]
        where = {name: file for file, shard in zip(names, shards, strict=True) for name in shard}
        index = {"metadata": {}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    for file, shard in zip(names, shards, strict=True):
        entries, at = {}, 0
        for name, shape in shard.items():
            entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at := at + 2 * prod(shape)]}
        header = json.dumps(entries).encode()
        with (folder / file).open("wb") as stream:
            stream.write(struct.pack("<Q", len(header)) + header)
            stream.truncate(8 + len(header) + at)


def _vision_of_gemma() -> dict[str, tuple[int, ...]]:
    """The tower of pictures of google/gemma-3-4b-it, a SigLIP, and what joins it to the text model."""
    wide, ffn, tower = 1152, 4304, "vision_tower.vision_model"
    found: dict[str, tuple[int, ...]] = {
        f"{tower}.embeddings.patch_embedding.weight": (wide, 3, 14, 14),
        f"{tower}.embeddings.patch_embedding.bias": (wide,),
        f"{tower}.embeddings.position_embedding.weight": (4096, wide),
        f"{tower}.post_layernorm.weight": (wide,),
        f"{tower}.post_layernorm.bias": (wide,),
        "multi_modal_projector.mm_input_projection_weight": (wide, 2560),
        "multi_modal_projector.mm_soft_emb_norm.weight": (wide,),
    }
    for layer in range(27):
        stem = f"{tower}.encoder.layers.{layer}"
        linear = {f"self_attn.{name}_proj": (wide, wide) for name in ("q", "k", "v", "out")}
        linear |= {"mlp.fc1": (ffn, wide), "mlp.fc2": (wide, ffn)}
        for name, shape in linear.items():
            found |= {f"{stem}.{name}.weight": shape, f"{stem}.{name}.bias": shape[:1]}
        for name in ("layer_norm1", "layer_norm2"):
            found |= {f"{stem}.{name}.weight": (wide,), f"{stem}.{name}.bias": (wide,)}
    return found


def _config(kind: str, architecture: str, shape: Shape, **more: Any) -> dict[str, Any]:
    return {
        "architectures": [architecture],
        "model_type": kind,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.groups,
        "vocab_size": shape.vocabulary,
        "tie_word_embeddings": shape.tied,
        "torch_dtype": "bfloat16",
        "rms_norm_eps": 1e-5,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **more,
    }


def _published(kind: str, architecture: str, template: str | None, shape: Shape, **more: Any) -> Published:
    return Published(shape, _config(kind, architecture, shape, **more), template)


LLAMA_7B = Shape(4096, 11008, 32, 32, 32, 32000)
TOWER_7B = Shape(4096, 11008, 32, 32, 32, 32007)
TOWER_MISTRAL = Shape(4096, 14336, 32, 32, 8, 32768)
QWEN = {"rope_theta": 1e6, "max_position_embeddings": 32768, "use_sliding_window": False}
QWEN_HALF = Shape(896, 4864, 24, 14, 2, 151936, width=64, tied=True, bias=True)
QWEN_ONE_AND_A_HALF = Shape(1536, 8960, 28, 12, 2, 151936, tied=True, bias=True)
GEMMA_4B = Shape(
    2560,
    10240,
    34,
    8,
    4,
    262208,
    width=256,
    tied=True,
    norms=("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"),
    head_norms=("q_norm", "k_norm"),
    inside="language_model.",
)
MODELS: dict[str, Published] = {
    "haoranxu/ALMA-7B": _published("llama", "LlamaForCausalLM", None, LLAMA_7B, max_position_embeddings=4096),
    "Unbabel/TowerInstruct-7B-v0.2": _published(
        "llama", "LlamaForCausalLM", CHATML, TOWER_7B, max_position_embeddings=4096
    ),
    "Unbabel/TowerInstruct-Mistral-7B-v0.2": _published(
        "mistral", "MistralForCausalLM", CHATML, TOWER_MISTRAL, max_position_embeddings=32768, sliding_window=None
    ),
    "Qwen/Qwen2.5-Coder-0.5B-Instruct": _published("qwen2", "Qwen2ForCausalLM", CHATML, QWEN_HALF, **QWEN),
    "Qwen/Qwen2.5-1.5B-Instruct": _published("qwen2", "Qwen2ForCausalLM", CHATML, QWEN_ONE_AND_A_HALF, **QWEN),
    # What its config.json leaves out, such as heads and vocabulary, transformers takes for granted.
    "google/gemma-3-4b-it": Published(
        GEMMA_4B,
        {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "model_type": "gemma3",
            "boi_token_index": 255999,
            "eoi_token_index": 256000,
            "eos_token_id": [1, 106],
            "image_token_index": 262144,
            "mm_tokens_per_image": 256,
            "torch_dtype": "bfloat16",
            "text_config": {
                "hidden_size": 2560,
                "intermediate_size": 10240,
                "model_type": "gemma3_text",
                "num_hidden_layers": 34,
                "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
                "sliding_window": 1024,
            },
            "vision_config": {
                "hidden_size": 1152,
                "image_size": 896,
                "intermediate_size": 4304,
                "model_type": "siglip_vision_model",
                "num_attention_heads": 16,
                "num_hidden_layers": 27,
                "patch_size": 14,
                "vision_use_head": False,
            },
        },
        GEMMA_TURNS,
        beside=_vision_of_gemma(),
    ),
}
