"""The LoRA layer of our own against peft's: the same numbers and gradients, and peft's where it is not that plain."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.support.tiny_models import VOCABULARY, tiny_model


def adapted(fused: bool, **changes: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    from workers.training.model_forms.fused_lora import FusedLoraLinear

    modules = r".*layers\.\d+\..*\b(q_proj|down_proj|up_proj)"
    settings = {"r": 4, "lora_alpha": 8, "target_modules": modules, "task_type": "CAUSAL_LM", **changes}
    config = LoraConfig(**settings)
    if fused:
        config._register_custom_module({nn.Linear: FusedLoraLinear})
    model = get_peft_model(tiny_model("llama"), config)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name and "magnitude" not in name:
            parameter.data.normal_(std=0.3)
    return model


@pytest.mark.parametrize("changes", [{}, {"use_dora": True}, {"lora_dropout": 0.5}], ids=["plain", "dora", "dropout"])
def test_losses_and_gradients_are_pefts(changes: dict[str, Any]) -> None:
    ids = torch.randint(3, VOCABULARY, (3, 11), generator=torch.Generator().manual_seed(2))
    losses, gradients = [], []
    for fused in (False, True):
        model = adapted(fused, **changes).train()
        torch.manual_seed(3)
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: one.grad for name, one in model.named_parameters() if one.requires_grad})
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) >= 18
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_a_layer_that_is_merged_or_turned_off_answers_as_pefts() -> None:
    ids = torch.randint(3, VOCABULARY, (1, 7), generator=torch.Generator().manual_seed(2))
    model, plain = adapted(True).eval(), tiny_model("llama")
    with torch.no_grad():
        before = model(input_ids=ids).logits
        with model.disable_adapter():
            torch.testing.assert_close(model(input_ids=ids).logits, plain(input_ids=ids).logits)
        model.merge_adapter()
        torch.testing.assert_close(model(input_ids=ids).logits, before, rtol=1e-4, atol=1e-4)
