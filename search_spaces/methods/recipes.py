"""Recipes: trainers with published parameters, by name.

In a study file a step may say `recipe: NAME`; parameters that it gives itself go before the recipe's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces.errors import CandidateError

RECIPES: dict[str, dict[str, Any]] = {
    # ALMA's second stage with LoRA, once through its human-written pairs in batches of 256:
    # https://arxiv.org/abs/2309.11674 and runs/parallel_ft_lora.sh of https://github.com/fe1ixxu/ALMA. Its warm-up is a
    # hundredth of the steps: 5 of 459.
    "alma-lora": {
        "method": "recover", "adapter": "lora", "rank": 16, "alpha": 32.0, "dropout": 0.05, "loss": "references",
        "tokens": 0, "rate": 2e-3, "schedule": "inverse_sqrt", "warm_up": 5, "weight_decay": 0.01,
        "batch": 256,
    },
    # The same stage for all weights (there, runs/parallel_ft.sh).
    "alma-full": {
        "method": "finetune", "loss": "references", "tokens": 0, "rate": 2e-5, "schedule": "inverse_sqrt",
        "warm_up": 5, "weight_decay": 0.01, "batch": 256,
    },
    # ALMA-13B-R at 3 bits: forward KL on the target tokens of 30,000 of ALMA's pairs in 936 steps of AdamW, so once
    # through in batches of 32, on frozen packed weights: https://github.com/krijnD/-Model-Compression-for-Machine-
    # Translation-in-Large-Language-Models. It names no alpha, dropout or schedule: those are ours.
    "low-bit-lora": {
        "method": "recover", "adapter": "lora", "rank": 16, "alpha": 32.0, "loss": "forward_kl", "tokens": 0,
        "rate": 2e-4, "batch": 32,
    },
    # There, at 2 bits. Alpha is twice the rank, as above.
    "low-bit-lora-64": {
        "method": "recover", "adapter": "lora", "rank": 64, "alpha": 128.0, "loss": "forward_kl", "tokens": 0,
        "rate": 2e-4, "batch": 32,
    },
    # PEQA (https://arxiv.org/abs/2305.14152) trains the scales alone, which costs no byte; the teacher and the rate are
    # ours.
    "heal": {"method": "recover", "adapter": "scales", "loss": "forward_kl", "rate": 2e-4},
    # LLM-QAT (https://arxiv.org/abs/2305.17888) trains all weights through their rounding, against the teacher; the
    # rate is ours.
    "quantization-aware": {"method": "finetune", "loss": "forward_kl", "rate": 2e-5},
    # The same with cross-entropy on the references beside it (https://arxiv.org/abs/1503.02531 §2): a teacher that was
    # trained on the pairs for too short a time is not the best that they can teach. The share is ours.
    "quantization-aware-references": {
        "method": "finetune", "loss": "forward_kl", "reference_share": 0.5, "rate": 2e-5,
    },
    # The same towards the teacher's translations too, as Kim and Rush (https://aclanthology.org/D16-1139) train
    # students; best on sources that the teacher has not learnt.
    "quantization-aware-beams": {
        "method": "finetune", "loss": "forward_kl", "beams": 4, "reference_share": 0.5, "rate": 2e-5,
    },
}  # fmt: skip


def recipe(step: Mapping[str, Any]) -> dict[str, Any]:
    """The step with its recipe's parameters spelt out; itself where it names none.

    Raises CandidateError for a recipe that there is not, or one of another method than the step's.
    """
    if "recipe" not in step:
        return dict(step)
    name = step["recipe"]
    if not isinstance(name, str) or name not in RECIPES:
        raise CandidateError(f"no recipe is called {name!r}; there are {', '.join(RECIPES)}")
    found = RECIPES[name]
    if step.get("method", found["method"]) != found["method"]:
        raise CandidateError(
            f"the recipe {name} belongs to the method {found['method']}, not to {step['method']!r}; leave one out"
        )
    return {**found, **{key: value for key, value in step.items() if key != "recipe"}}
