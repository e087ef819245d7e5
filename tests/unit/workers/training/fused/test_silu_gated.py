"""Which modules are taken for SiLU-gated units, adapters beside 16 bits or fewer among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from search_spaces.methods.quantizers import BitsAndBytes
from search_spaces.methods.trainers import Recover
from tests.support.dense_reference import CPU
from workers.compression.quantization import bitsandbytes
from workers.training.fused.modules import is_silu_gated
from workers.training.model_forms.trainable import adapter_form


def mlps(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if type(module).__name__.endswith("MLP")]


@pytest.mark.parametrize("adapter", ["lora", "dora"])
def test_one_with_adapters_beside_four_bits_is_known(save_llama: Any, tmp_path: Path, adapter: str) -> None:
    out = tmp_path / "nf4"
    out.mkdir()
    bitsandbytes.compress(save_llama(initializer_range=0.2), out, BitsAndBytes(format="nf4"), CPU)
    form = adapter_form(out, Recover(rank=4, tokens=1000, adapter=adapter), torch.device("cpu"), 0)
    found = mlps(form.base)
    assert found
    # The values that it is tried on are bfloat16, the adapters float32.
    with torch.no_grad():
        assert all(map(is_silu_gated, found))


def test_another_activation_is_none(save_llama: Any) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(save_llama(hidden_act="gelu"))
    with torch.no_grad():
        assert not any(map(is_silu_gated, mlps(model)))
