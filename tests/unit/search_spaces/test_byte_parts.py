"""Where bytes are: every stored form's tensors find their part, and the parts add up to the model's bytes."""

from __future__ import annotations

import pytest

from search_spaces.methods.pruners import Wanda
from search_spaces.methods.quantizers import FP8, GPTQ, HQQ, BitsAndBytes, QuantizeEmbeddings
from search_spaces.methods.registry import Step
from search_spaces.predicted_size import predicted_bytes, predicted_checkpoint
from search_spaces.sizes.byte_parts import part_of, parts_of
from tests.support.examples import llama_table


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.embed_tokens.weight", "embeddings"),
        ("model.embed_tokens.weight_packed", "embeddings"),
        ("model.embed_tokens.weight_scale", "scales"),
        ("lm_head.weight", "head"),
        ("model.layers.3.self_attn.q_proj.weight", "attention"),
        ("model.layers.3.self_attn.q_proj.bias", "attention"),
        ("model.layers.3.self_attn.q_norm.weight", "norms and other"),
        ("model.layers.3.mlp.down_proj.weight_values", "MLP"),
        ("model.layers.3.mlp.down_proj.weight_mask", "MLP"),
        ("model.layers.3.mlp.down_proj.weight_zero_point", "scales"),
        ("model.layers.3.mlp.up_proj.weight.quant_state.bitsandbytes__nf4", "scales"),
        ("model.layers.3.mlp.up_proj.SCB", "scales"),
        ("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight", "adapter"),
        ("model.layers.0.post_attention_layernorm.weight", "norms and other"),
        ("model.norm.weight", "norms and other"),
    ],
)
def test_a_tensors_name_says_its_part(name: str, part: str) -> None:
    assert part_of(name) == part


@pytest.mark.parametrize(
    "steps",
    [
        (),
        (GPTQ(bits=4),),
        (HQQ(bits=3), QuantizeEmbeddings(bits=8)),
        (Wanda(), GPTQ(bits=4)),
        (FP8(),),
        (BitsAndBytes(format="nf4", double_quantization=True),),
        (BitsAndBytes(format="int8"),),
    ],
)
def test_parts_add_up_to_all_bytes_and_what_is_packed_shrinks(steps: tuple[Step, ...]) -> None:
    base = llama_table()
    whole = parts_of(base)
    parts = parts_of(predicted_checkpoint(base, steps))
    assert sum(parts.values()) == predicted_bytes(base, steps)
    assert whole["embeddings"] == 2 * 500 * 128 and whole["files"] == 5000 + base.header_bytes
    assert ("scales" in parts) == bool(steps)
    if steps:
        assert parts["MLP"] < whole["MLP"] and parts["attention"] < whole["attention"]
