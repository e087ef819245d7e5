"""Recipes: the published numbers, spelt out wherever a candidate is kept."""

from __future__ import annotations

from typing import Any

import pytest

from search_spaces.candidate import BaseModel, Candidate
from search_spaces.errors import CandidateError
from search_spaces.methods.recipes import RECIPES
from search_spaces.methods.registry import step_from_json, step_to_json
from search_spaces.methods.trainers import Finetune, Recover

BASE = BaseModel("models/tiny", "sha256:00ff")


def test_the_recipes_are_the_published_ones() -> None:
    alma: dict[str, Any] = {
        "loss": "references", "tokens": 0, "schedule": "inverse_sqrt", "warm_up": 5, "weight_decay": 0.01, "batch": 256,
    }  # fmt: skip
    low: dict[str, Any] = {"loss": "forward_kl", "tokens": 0, "rate": 2e-4, "batch": 32}
    assert {name: step_from_json({"recipe": name}) for name in RECIPES} == {
        "alma-lora": Recover(adapter="lora", rank=16, alpha=32.0, dropout=0.05, rate=2e-3, **alma),
        "alma-full": Finetune(rate=2e-5, **alma),
        "low-bit-lora": Recover(adapter="lora", rank=16, alpha=32.0, **low),
        "low-bit-lora-64": Recover(adapter="lora", rank=64, alpha=128.0, **low),
        "heal": Recover(adapter="scales", loss="forward_kl"),
        "quantization-aware": Finetune(loss="forward_kl"),
        "quantization-aware-references": Finetune(loss="forward_kl", reference_share=0.5),
        "quantization-aware-beams": Finetune(loss="forward_kl", beams=4, reference_share=0.5),
    }


def test_a_steps_own_parameters_go_before_the_recipes() -> None:
    record = {"recipe": "alma-lora", "method": "recover", "merged": True, "tokens": 5000}
    step = step_from_json(record)
    assert step == step_from_json({**RECIPES["alma-lora"], "merged": True, "tokens": 5000})
    assert record == {"recipe": "alma-lora", "method": "recover", "merged": True, "tokens": 5000}


def test_a_candidate_keeps_no_trace_of_the_recipe() -> None:
    step = step_from_json({"recipe": "heal"})
    assert "recipe" not in step_to_json(step)
    quantized = step_from_json({"method": "gptq", "bits": 3})
    plain = Candidate(BASE, (quantized, Recover(adapter="scales")))
    assert Candidate(BASE, (quantized, step)).digest == plain.digest


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"recipe": "alma"}, "no recipe is called 'alma'; there are alma-lora, alma-full, .*quantization-aware-beams$"),
        ({"recipe": ["heal"]}, r"no recipe is called \['heal'\]"),
        ({"recipe": None}, "no recipe is called None"),
        (
            {"recipe": "heal", "method": "finetune"},
            "the recipe heal belongs to the method recover, not to 'finetune'; leave",
        ),
        ({"recipe": "alma-full", "rank": 8}, "finetune has no parameter 'rank'"),
        ({"recipe": "alma-full", "rate": 7}, "finetune.rate is 7"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(record: dict[str, Any], reason: str) -> None:
    with pytest.raises(CandidateError, match=reason):
        step_from_json(record)
