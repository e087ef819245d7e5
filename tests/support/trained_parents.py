"""Parents for steps that train: tiny Llamas in every stored form, pairs to train on, and a few optimizer steps."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from search_spaces.methods.pruners import Magnitude
from search_spaces.methods.quantizers import RTN, BitsAndBytes
from search_spaces.methods.registry import Step
from tests.support.dense_reference import CPU, IDS
from workers.evaluation.methods import compress
from workers.plan.compression_context import CompressionContext
from workers.reading.training_data import training_data
from workers.translation.prompts import PROMPTS

SHAPE: dict[str, Any] = {"initializer_range": 0.2, "attention_bias": True, "num_hidden_layers": 2}
# Steps after which a parent's weights are stored in each form that something trains.
FORMS: dict[str, tuple[Step, ...]] = {
    "dense": (),
    "packed": (RTN(bits=4, group_size=32),),
    "packed with zero points": (RTN(bits=3, group_size=-1, symmetric=False),),
    "sparse": (Magnitude(),),
    "sparse and packed": (Magnitude(), RTN(bits=4)),
    "nf4": (BitsAndBytes(format="nf4"),),
    "int8": (BitsAndBytes(format="int8"),),
}


def made(parent: Path, scratch: Path, *steps: Step, context: CompressionContext = CPU) -> Path:
    """The parent after these steps, each in a new folder of `scratch`."""
    for step in steps:
        parent, parents = empty(scratch), parent
        compress(parents, parent, step, context)
    return parent


def empty(scratch: Path) -> Path:
    """A new folder."""
    out = scratch / f"made-{len(list(scratch.glob('made-*')))}"
    out.mkdir()
    return out


def training_context(scratch: Path, teacher: Path, count: int = 48, **changes: Any) -> CompressionContext:
    """A context with pairs to train on: each source's words in reverse order, of which some are held out."""
    file = scratch / "pairs.jsonl"
    words = ["a dog", "runs", "on", "the hill", "today", "with", "two", "cats"]
    with file.open("w", encoding="utf-8") as stream:
        for number in range(count):
            said = [words[(number + place * (1 + number // 8)) % 8] for place in range(2 + number % 2)]
            row = {"langs": "en-de", "src": f"{number} " + " ".join(said), "ref": " ".join(reversed(said))}
            stream.write(json.dumps(row) + "\n")
    data = training_data([(str(file), 1.0)], ["en-de"])
    values: dict[str, Any] = {
        "store": scratch / "store", "parent_key": "parent", "training": data, "teacher": teacher, "teacher_key": "base",
    }  # fmt: skip
    return CompressionContext((), PROMPTS["few-shot"], torch.device("cpu"), 0, **(values | changes))


def trained_a_little(model: Any, steps: int = 3, rate: float = 1e-2) -> Any:
    """The model after a few steps of AdamW that make it say IDS again, in eval mode."""
    model.train()
    optimizer = torch.optim.AdamW(in_training(model.parameters()), lr=rate, weight_decay=0.0)
    for _ in range(steps):
        scores = model(IDS).logits[:, :-1].flatten(0, 1)
        torch.nn.functional.cross_entropy(scores, IDS[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def in_training(parameters: Iterable[torch.nn.Parameter]) -> list[torch.nn.Parameter]:
    return [parameter for parameter in parameters if parameter.requires_grad]
