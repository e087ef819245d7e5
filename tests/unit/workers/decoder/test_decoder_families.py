"""The models people have, in small: each decodes as `generate` does, token for token, or is told apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma3Config, Gemma3ForCausalLM

from search_spaces.methods.quantizers import RTN
from tests.support.tiny_models import SHAPE, tiny_model
from tests.unit.workers.decoder.test_decoder import STOPS, by_generate, requests
from workers.decoder.decode import Decoder
from workers.decoder.engines import dense
from workers.decoder.families import why_unknown
from workers.loading.load import load_model, with_soft_caps
from workers.loading.readme import write_readme

# Six layers, so that one of Gemma 3 sees everything; a window shorter than the prompts.
GEMMA3 = {"num_hidden_layers": 6, "sliding_window": 8, "sliding_window_pattern": 6, "rope_theta": 1e6}
LINEAR = {"rope_type": "linear", "factor": 8.0}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
ALTERNATE = ["sliding_attention", "full_attention", "sliding_attention"]
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma-2-9b": ("gemma2", {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}),
    "gemma-2-27b": ("gemma2", {"query_pre_attn_scalar": 144, "head_dim": 8, "hidden_size": 36}),
    "gemma-2 without caps": ("gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": None}),
    "gemma-3-4b, as its config is published": (
        "gemma3_text", {**GEMMA3, "rope_scaling": LINEAR, "rope_local_base_freq": 10000.0, "layer_types": None},
    ),
    "gemma-3-12b": (
        "gemma3_text", {
            **GEMMA3, "num_attention_heads": 8, "num_key_value_heads": 4, "layer_types": None, "rope_scaling": LINEAR,
        },
    ),
    "gemma-3-27b, as transformers 5 writes it": (
        "gemma3_text", {
            "num_hidden_layers": 3, "sliding_window": 8, "query_pre_attn_scalar": 168, "layer_types": ALTERNATE,
            "rope_parameters": {
                "full_attention": {**LINEAR, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        },
    ),
    "gemma-3 with a final cap": ("gemma3_text", {"final_logit_softcapping": 3.0}),
    "llama-3.1": ("llama", {"rope_parameters": LLAMA3}),
    "mistral-7b-v0.1": ("mistral", {"sliding_window": 9}),
    "mistral-7b-v0.3": ("mistral", {"sliding_window": None}),
    "qwen2.5 with a window in its last layers": (
        "qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    ),
    "qwen3, tied": ("qwen3", {"tie_word_embeddings": True}),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_models_people_have_decode_as_generate_does(name: str) -> None:
    family, changes = MODELS[name]
    model = tiny_model(family, seed=9, **changes)
    assert why_unknown(model) is None
    asked = requests(5, seed=9, limit=18)
    assert Decoder(model, STOPS, 3).decode(asked) == by_generate(model, asked, STOPS)
    assert Decoder(model, STOPS, 3, beams=2).decode(asked[:2]) == by_generate(model, asked[:2], STOPS, beams=2)


def test_the_text_model_of_a_multimodal_config_decodes_alike() -> None:
    text = {**SHAPE, **GEMMA3, "rope_scaling": LINEAR, "query_pre_attn_scalar": 16}
    config = Gemma3Config(text_config=text).text_config
    torch.manual_seed(0)
    model = Gemma3ForCausalLM(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.25)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    asked = requests(5, limit=18)
    assert Decoder(model, STOPS, 3).decode(asked) == by_generate(model, asked, STOPS)


def test_caps_bend_what_comes_out_and_transformers_default_would_leave_attentions_out() -> None:
    model = tiny_model("gemma2", attn_logit_softcapping=0.5)
    assert model.config._attn_implementation == "eager"
    ids = torch.tensor([list(range(5, 25))])
    capped = model(ids).logits.detach()
    model.set_attn_implementation("sdpa")
    left_out = model(ids).logits.detach()
    assert float((capped - left_out).abs().max()) > 0.01
    assert torch.equal(with_soft_caps(model)(ids).logits, capped)
    # No cap, nothing to do.
    assert with_soft_caps(tiny_model("llama")).config._attn_implementation == "sdpa"


def test_a_loaded_gemma_2_is_capped_and_its_readme_says_how(tmp_path: Path) -> None:
    model = tiny_model("gemma2", attn_logit_softcapping=0.5)
    model.save_pretrained(tmp_path)
    ids = torch.tensor([list(range(5, 25))])
    assert torch.equal(load_model(tmp_path, "cpu")(ids).logits, model(ids).logits)
    write_readme(tmp_path, "example/gemma-2", (RTN(bits=8),))
    said = 'AutoModelForCausalLM.from_pretrained("FOLDER", attn_implementation="eager")'
    assert said in (tmp_path / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("beams", [1, 2])
def test_capped_attention_a_sequence_at_a_time_changes_nothing(beams: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "PRODUCT_BYTES", 1)
    model = tiny_model("gemma2", seed=3)
    asked = requests(5, seed=3)
    assert Decoder(model, STOPS, 4, beams).decode(asked) == by_generate(model, asked, STOPS, beams)


EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
UNKNOWN: dict[str, dict[str, Any]] = {
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 16},
    "qwen3_moe": EXPERTS,
    "mixtral": {"num_local_experts": 4},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "phi3": {"sliding_window": 8},
    "olmo2": {},
    "cohere": {},
}


@pytest.mark.parametrize("family", UNKNOWN)
def test_mixtures_of_experts_and_other_families_are_told_apart_by_name(family: str) -> None:
    model = tiny_model(family, **UNKNOWN[family])
    assert f"{type(model).__name__} is none of Llama" in str(why_unknown(model))


@pytest.mark.parametrize(
    ("family", "setting"), [("gemma3_text", "attn_logit_softcapping"), ("llama", "final_logit_softcapping")]
)
def test_a_cap_where_transformers_reads_none_is_left_to_generate(family: str, setting: str) -> None:
    model = tiny_model(family)
    setattr(model.config, setting, 2.0)
    assert why_unknown(model) == f"its config sets {setting}"
