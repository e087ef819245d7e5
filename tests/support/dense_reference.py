"""What a quantized folder must compute, worked out apart from the libraries that run it: the parent with its weights
replaced, and each linear input put on its token's 8-bit grid by a hook."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from workers.plan.compression_context import CompressionContext
from workers.translation.prompts import PROMPTS

CPU = CompressionContext((), PROMPTS["alma"], torch.device("cpu"), 0)
IDS = torch.tensor([[1, 40, 7, 90, 33, 5, 61], [1, 8, 19, 77, 20, 21, 22]])
# Parents whose checkpoints differ in what a size has to account for.
PARENTS: dict[str, dict[str, Any]] = {
    "untied": {"tie_word_embeddings": False},
    "tied": {"tie_word_embeddings": True},
    "biased": {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True},
    "float32": {"tie_word_embeddings": False, "dtype": torch.float32},
}
SHAPE = {"vocab_size": 500, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 2}

_LOGITS_OF = """
import sys, torch
from transformers import AutoModelForCausalLM
found = {}
for folder in sys.argv[2:]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        found[folder] = model(torch.load(sys.argv[1] + "/ids.pt")).logits.clone()
torch.save(found, sys.argv[1] + "/logits.pt")
"""


def int8_tokens(inputs: torch.Tensor) -> torch.Tensor:
    """Inputs (…, width) on symmetric int8 grids, a scale a token."""
    scale = inputs.abs().amax(dim=-1, keepdim=True) / 127.5
    return torch.where(scale == 0, 0.0, (inputs / scale).round().clamp(-128, 127) * scale)


def e4m3_tokens(inputs: torch.Tensor) -> torch.Tensor:
    """Inputs (…, width) on E4M3 grids, a scale a token."""
    scale = inputs.abs().amax(dim=-1, keepdim=True) / 448
    values = (inputs / scale).clamp(-448, 448).to(torch.float8_e4m3fn).float()
    return torch.where(scale == 0, 0.0, values * scale)


def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.inference_mode():
        found = model(ids).logits
    assert isinstance(found, torch.Tensor)
    return found


def reference(
    parent: Path, weights: Mapping[str, torch.Tensor], tokens: Callable[[torch.Tensor], torch.Tensor] | None = None
) -> Any:
    """The parent in float32 with these weights, its layers' linear inputs passed through `tokens`."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(parent, dtype=torch.float32).eval()
    for name, weight in weights.items():
        linear = model.get_submodule(name.removesuffix(".weight"))
        linear.weight.data = weight
        if tokens is not None:
            linear.register_forward_pre_hook(lambda module, inputs: (tokens(inputs[0]),))
    return model


def logits_by_transformers_alone(folders: list[Path], scratch: Path) -> list[torch.Tensor]:
    """The folders' logits in a process of its own that imports nothing of this project."""
    torch.save(IDS, scratch / "ids.pt")
    names = [str(folder) for folder in folders]
    run = subprocess.run(
        [sys.executable, "-I", "-c", _LOGITS_OF, str(scratch), *names], cwd=scratch, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    found = torch.load(scratch / "logits.pt")
    return [found[name] for name in names]
